# SPDX-License-Identifier: MIT
"""The compared designs: which threads handle faults, on how many userfaultfds, with which windows."""
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Design:
    name: str
    delivery: str = "queued"  # queued, kernel (no userfaultfd), context (SIGBUS), exit (patched KVM)
    uffds: int = 1            # 0: one per vCPU
    readers: int = 1          # threads for each userfaultfd; 0: as many as vCPUs
    workers: int = 0          # threads that serve all userfaultfds in turn, instead of readers
    window_first: int = 1     # pages
    window_max: int = 1
    batch: int = 1            # messages per read()
    kvm: bool = True


def default_workers(cores: int) -> int:
    """One per 8 processors, at least 2, at most 64, as in numa/plan.c."""
    return min(64, max(2, cores // 8))


def default_shards(vcpus: int, workers: int) -> int:
    """One per 8 vCPUs, a power of two, at least one per worker, as fln_default_nr_shards()."""
    need = max((vcpus + 7) // 8, workers)
    return min(256, 1 << (need - 1).bit_length())


DESIGNS = {d.name: d for d in (
    Design("kernel", delivery="kernel"),
    Design("single"),
    Design("single_window", window_first=8, window_max=512),
    Design("per_vcpu", uffds=0),
    Design("engine", batch=64, window_first=8, window_max=512),
    Design("engine_page", batch=64),
    Design("engine_in_context", delivery="context", window_first=8, window_max=512, kvm=False),
    Design("engine_in_context_page", delivery="context", kvm=False),
    # Only published: as many readers as vCPUs on one userfaultfd, and a KVM that asks its caller.
    Design("single_readers", readers=0),
    Design("exit", delivery="exit"),
)}


def design(name: str, cores: int, vcpus: int, kvm: bool = True, workers: int = 0,
           shards: int = 0) -> Design:
    d = DESIGNS[name]
    if name.startswith("engine"):
        workers = workers or default_workers(cores)
        shards = shards or default_shards(vcpus, workers)
        d = replace(d, uffds=shards, workers=min(workers, shards))
    return replace(d, kvm=kvm and d.delivery != "context")
