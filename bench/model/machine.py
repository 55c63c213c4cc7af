# SPDX-License-Identifier: MIT
"""The costs of operations, each with the origin of its value.

M  measured on the development machine (docs/SCALING.md has the table)
A  assumed, from literature or from reading the kernel's source
C  calibrated: chosen so that one known point comes out; which one is said.  The rows of such
   points are fits and prove nothing.
The costs of waking and of a line's transfer were chosen within their ranges after looking at
the published curve of one userfaultfd: it is no blind test.
Times are nanoseconds.
"""
from dataclasses import dataclass, field, fields, replace


def cost(default: float, source: str):
    return field(default=default, metadata={"source": source})


@dataclass(frozen=True)
class Machine:
    cores: int = 256

    # Between processors.
    line_ns: float = cost(100, "A: a modified line from another core: 50-70 in a socket, 100-150 across two")
    atomic_ns: float = cost(6, "M: an atomic on a line of one's own (micro/hold/atomic)")
    scan_ns: float = cost(18, "M: one blocked thread passed over by a wake, 15 ns hot, 27 by an install")
    waker_idle_ns: float = cost(800, "A: try_to_wake_up() with the interrupt to a processor that idles")
    waker_busy_ns: float = cost(500, "M: the same without the interrupt")
    idle_wake_ns: float = cost(1200, "A: from that interrupt to running: leaving idle, switching")
    switch_ns: float = cost(1200, "M: half of a round trip of two wakes on one processor, 1.7 us hot and 5 cold")
    switch_writes: float = cost(3, "C: lines of the whole process written when a thread sleeps or wakes (mm_count, ...): 723 k/s with a userfaultfd per vCPU at 64 vCPUs, Dec 2024")

    # The thread that faults.
    touch_ns: float = cost(60, "A: first access to a page that is mapped (7 ns hot), and next to no work of the guest")
    trap_ns: float = cost(700, "M: the first part of a cold write fault of the kernel's own, 1.0 to 2.0 us in all")
    retry_ns: float = cost(600, "M: its last part, walked again after the wake")
    map_ns: float = cost(900, "M: the same fault, less its first part")
    kvm_exit_ns: float = cost(1000, "A: a vCPU leaves guest mode and returns to it")
    kvm_switch_ns: float = cost(700, "A: a vCPU's thread sleeps and goes on: its state put away and loaded")
    kvm_around: float = cost(1, "A: mapped pages that one fault of the guest takes along (more with shadow page tables)")
    kvm_map_ns: float = cost(500, "A: KVM's own page table entry")
    enqueue_ns: float = cost(60, "A: a waiter into the list")
    signal_ns: float = cost(1900, "M: a signal and its return, 1.2 us hot and 2.5 cold, less its locks")
    siglock_ns: float = cost(60, "A: one of three sections under the process's siglock")

    # The thread that serves.
    syscall_ns: float = cost(170, "M: 0.08 us hot, 0.17 cold")
    poll_ns: float = cost(300, "M: epoll_pwait() that finds something")
    refile_ns: float = cost(150, "M: read() of one message of a batch, less the call and locks")
    install_ns: float = cost(700, "M: a CONTINUE of one page, cold 1.1 us, less the page and the call")
    page_ns: float = cost(220, "M: each page of a CONTINUE, 0.06 us hot and 0.22 cold")
    engine_batch_ns: float = cost(400, "M: per batch: sort, RCU, counters, commands")
    engine_fault_ns: float = cost(350, "M: per fault: lookup, claim, states, settle, histogram: 0.2 us hot")
    pte_lock_ns: float = cost(40, "A: under the page table's lock, each page")

    # Which kernel: 1 if installs take mmap_lock (before 6.9), else the VMA's lock.
    ioctl_mmap_lock: float = cost(0, "read in the source")

    def with_(self, **changes) -> "Machine":
        return replace(self, **changes)


def bare(cores: int) -> Machine:
    """A current bare-metal server, with Linux 6.15 or newer."""
    return Machine(cores=cores)


def published_2023() -> Machine:
    """256 processors, a kernel of early 2023; C: 7 writes for its plateau of 256 to 320 k/s."""
    return Machine(cores=256, ioctl_mmap_lock=1, switch_writes=7)


def published_2024() -> Machine:
    """96 processors, December 2024."""
    return Machine(cores=96)


def here() -> Machine:
    """
    The development machine: two cores of a virtual machine, where an interrupt to the other
    core leaves the machine (M: micro/wake/waker, micro/fault/queued), and KVM is nested.
    C: kvm_switch_ns for 33 us with one handler and 16 vCPUs, kvm_around for one window's 1.6.
    """
    return Machine(cores=2, line_ns=30, waker_idle_ns=12000, idle_wake_ns=8500, kvm_exit_ns=3000,
                   kvm_map_ns=1000, kvm_switch_ns=18000,
                   kvm_around=4)


def sources() -> dict:
    """Field to (kind, text): what is measured, assumed, calibrated."""
    return {f.name: f.metadata["source"] for f in fields(Machine) if "source" in f.metadata}
