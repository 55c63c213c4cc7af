# SPDX-License-Identifier: MIT
"""What things cost, each with where the figure comes from.

M  measured on the development machine (docs/SCALING.md has the table)
A  assumed, from literature or from reading the kernel's source
C  calibrated: chosen so that one known point comes out; which one is said
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
    scan_ns: float = cost(18, "M: one blocked thread passed over by a wake, its entry in cache")
    waker_idle_ns: float = cost(800, "A: try_to_wake_up() with the interrupt to a processor that idles")
    waker_busy_ns: float = cost(500, "M: the same without the interrupt")
    idle_wake_ns: float = cost(1200, "A: from that interrupt to running: leaving idle, switching")
    switch_ns: float = cost(1200, "M: one context switch (half of micro/wake/same_cpu, less the calls)")
    switch_writes: float = cost(3, "C: lines of the whole process written when a thread sleeps or wakes (mm_count, ...): 723 k/s with a userfaultfd per vCPU at 64 vCPUs, Dec 2024")

    # The thread that faults.
    touch_ns: float = cost(60, "M: first access to a page that is mapped, and the guest's own work")
    trap_ns: float = cost(700, "M: exception, lookup, up to where userfaultfd takes over")
    retry_ns: float = cost(600, "M: walking again, finding the entry, returning")
    map_ns: float = cost(900, "M: the kernel's own write fault on page cache, less the exception")
    kvm_exit_ns: float = cost(1000, "A: a vCPU leaves guest mode and returns to it")
    kvm_switch_ns: float = cost(700, "A: a vCPU's thread sleeps and goes on: its state put away and loaded")
    kvm_around: float = cost(1, "A: mapped pages that one fault of the guest takes along (more with shadow page tables)")
    kvm_map_ns: float = cost(500, "A: KVM's own page table entry")
    enqueue_ns: float = cost(60, "A: a waiter into the list")
    signal_ns: float = cost(1900, "M: SIGBUS delivered and returned from, without its locks")
    siglock_ns: float = cost(60, "A: one of three sections under the process's siglock")

    # The thread that serves.
    syscall_ns: float = cost(170, "M: a system call")
    poll_ns: float = cost(300, "M: epoll_pwait() that finds something")
    refile_ns: float = cost(150, "M: read() of one message, less the call")
    install_ns: float = cost(700, "M: a CONTINUE, less its pages and its wake")
    page_ns: float = cost(220, "M: each page of a CONTINUE")
    engine_batch_ns: float = cost(400, "M: per batch: sort, RCU, counters, commands")
    engine_fault_ns: float = cost(350, "M: per fault: lookup, claim, states, settle, histogram")
    pte_lock_ns: float = cost(40, "A: under the page table's lock, each page")

    # Which kernel: 1 if installs take mmap_lock (before 6.9), else the VMA's lock.
    ioctl_mmap_lock: float = cost(0, "read in the source")

    def with_(self, **changes) -> "Machine":
        return replace(self, **changes)


def bare(cores: int) -> Machine:
    """A bare-metal server of today, kernel 6.15 or newer."""
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
