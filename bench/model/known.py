# SPDX-License-Identifier: MIT
"""Published and measured results, to which the model is compared."""
from dataclasses import dataclass, replace
from typing import List, Tuple

from designs import Design, design
from machine import Machine, here, published_2023, published_2024


@dataclass(frozen=True)
class Point:
    what: str
    machine: Machine
    design: Design
    vcpus: int
    rate_k: float = 0          # thousand pages/s; 0: not compared
    cpu_us: float = 0          # CPU per page; 0: not known
    slack_k: float = 0         # the published figure is rounded by so much
    within: float = 2          # the factor that is asked for
    why: str = ""              # if it is not 2


# KVM selftest demand_paging_test -u MINOR -s shmem -a -r N, 256 processors, 1 to 256 vCPUs.
SINGLE_2023 = (150, 191, 210, 155, 130, 108, 86, 62, 36)
# The same with a userfaultfd per vCPU: published as whole thousands per vCPU, so rounded.
PER_VCPU_2023 = (180, 170, 320, 312, 288, 256, 256, 128, 256)
# A patched KVM that exits to its caller, which installs the page itself: no queue, no wake.
EXIT_2023 = (340, 477, 809, 1239, 1595, 2299, 3482, 4134, 4012)


def published() -> List[Point]:
    out = []
    for i in range(9):
        n = 1 << i
        out.append(Point("one userfaultfd, 2023", published_2023(),
                         design("single_readers", 256, n), n, SINGLE_2023[i]))
    for i in range(9):
        n = 1 << i
        out.append(Point("one per vCPU, 2023", published_2023(), design("per_vcpu", 256, n), n,
                         PER_VCPU_2023[i], slack_k=n / 2))
    for i in range(9):
        n = 1 << i
        out.append(Point("patched KVM, 2023", published_2023(), design("exit", 256, n), n,
                         EXIT_2023[i], within=2.2,
                         why="the published rate rises as if contention cost more at 8 to 32"))
    for name, what, rate in (("single_readers", "one userfaultfd, 2024", 107),
                             ("per_vcpu", "one per vCPU, 2024", 723),
                             ("exit", "patched KVM, 2024", 2700)):
        out.append(Point(what, published_2024(), design(name, 96, 64), 64, rate))
    return out


def measured() -> List[Point]:
    """Measured on the development machine: CPU per page, which other load affects least."""
    m, out = here(), []

    def add(name: str, kvm: bool, points: List[Tuple[int, float]], within: float = 2,
            why: str = "", **change) -> None:
        for n, cpu in points:
            d = replace(design(name, 2, n, kvm), **change)
            window = f", window {d.window_max}" if d.window_max > 1 else ""
            out.append(Point(name + window + (", KVM" if kvm else ""), m, d, n, cpu_us=cpu,
                             within=within, why=why))

    add("kernel", False, [(1, 1.8), (200, 1.8)])
    add("single", False, [(1, 28), (16, 9.4), (64, 10), (200, 18)])
    add("per_vcpu", False, [(1, 26), (16, 9.6), (64, 11), (200, 12)])
    prototype = dict(uffds=16, workers=2)
    add("engine_page", False, [(1, 27), (16, 13), (64, 11), (200, 10)], **prototype)
    add("engine", False, [(1, 2.6), (16, 1.3), (200, 1.5)], window_first=16, window_max=16,
        within=2.2, why="the prototype's 2 workers on 2 cores switch more", **prototype)
    add("engine", False, [(1, 0.45), (200, 0.5)], window_first=512, **prototype)
    add("engine", False, [(200, 0.77)], within=2.2, why="caches are cold in 1 GiB")
    add("single_window", False, [(200, 0.45)], window_first=512)
    add("engine_in_context_page", False, [(1, 4.8), (16, 5.3), (64, 5.2), (200, 5.3)])
    add("engine_in_context", False, [(1, 0.47), (16, 0.41), (200, 0.37)], window_first=64,
        window_max=64)
    add("kernel", True, [(1, 5.4), (16, 5.5), (200, 6.0)])
    add("single", True, [(1, 88), (16, 33), (64, 36), (128, 37), (200, 45), (256, 52)])
    add("per_vcpu", True, [(1, 77), (16, 39), (64, 36), (200, 46)])
    add("single_window", True, [(1, 1.6), (16, 2.1)], window_first=512)
    add("single_window", True, [(200, 3.2)], window_first=512, within=2.6,
        why="200 vCPUs on two cores: preempted in KVM, which is not modelled")
    return out


def off_by(point: Point, rate_k: float, cpu_us: float) -> float:
    """The ratio of model and known result, as a factor of at least 1."""
    if point.cpu_us:
        ratio = cpu_us / point.cpu_us
        return max(ratio, 1 / ratio)
    low, high = point.rate_k - point.slack_k, point.rate_k + point.slack_k
    return max(1.0, rate_k / high, low / rate_k)
