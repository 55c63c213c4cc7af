# SPDX-License-Identifier: MIT
"""The path of a fault through the kernel's locks and the handling threads.

It follows handle_userfault(), userfaultfd_ctx_read() and __wake_userfault() in
fs/userfaultfd.c, mfill_atomic() in mm/userfaultfd.c, ep_poll_callback() in fs/eventpoll.c and
get_user_pages_unlocked() under KVM.
"""
import random
from collections import deque
from typing import Deque, Dict, Iterator, List, Optional, Tuple

from designs import Design
from machine import Machine
from sim import BLOCK, PREEMPT, Line, Lock, Sim, Thread

BLOCK_PAGES = 512
FRONT_PAGES = 16   # of a window: mapped at once; the engine maps the rest when nobody waits
LATER_PAGES = 128
BURST_PAGES = 8    # touches of mapped pages that are one step of the simulation


class Fault:
    __slots__ = ("vcpu", "page", "began", "entry_core")

    def __init__(self, vcpu: Thread, page: int, began: float):
        self.vcpu, self.page, self.began = vcpu, page, began
        self.entry_core = vcpu.core  # whose cache has its list entry


class Uffd:
    def __init__(self, sim: Sim):
        self.pending_lock = Lock(sim, "uffd: fault_pending_wqh")
        self.fd_lock = Lock(sim, "uffd: fd_wqh")
        self.ctx = Line(sim, "uffd: map_changing_lock")
        self.pending: Deque[Fault] = deque()
        self.blocked: Dict[Fault, None] = {}  # pending or read, in order of arrival
        self.readers: List[Thread] = []
        self.waiting: Dict[Thread, None] = {}  # readers in epoll_wait()
        self.read_core = self.wake_core = -1   # that has read, has woken last


class World:
    """One run: a guest's memory, its vCPUs, and what serves them."""

    def __init__(self, machine: Machine, design: Design, vcpus: int, pages_each: int,
                 mixed: bool = False, seed: int = 1):
        m = self.m = machine
        self.d = design
        self.sim = Sim(m.cores, m.line_ns, m.atomic_ns, m.switch_ns, m.idle_wake_ns,
                       int(m.switch_writes))
        sim = self.sim
        self.mmap_lock = Line(sim, "mm: mmap_lock (read)")
        self.mm_users = Line(sim, "mm: mm_users")
        self.mmu_lock = Line(sim, "kvm: mmu_lock (read)")
        self.siglock = Lock(sim, "process: siglock")
        self.uffds = [Uffd(sim) for _ in range(design.uffds or vcpus)]
        self.vma_lines: Dict[int, Line] = {}
        self.pte_lines: Dict[int, Line] = {}
        # Each vCPU's part begins at a block boundary, like the engine's stripes.
        part = -(-pages_each // BLOCK_PAGES) * BLOCK_PAGES
        self.part_pages = part
        self.present = bytearray(part * vcpus)
        self.block_faults: Dict[int, int] = {}
        self.vcpus = [Thread(f"vcpu {i}") for i in range(vcpus)]
        self.handlers: List[Thread] = []
        self.later: Dict[Thread, Deque[Tuple[Uffd, int, int]]] = {}
        self.nr_touched = self.nr_faults = self.nr_ended = self.nr_installed = 0
        self.waits: List[float] = []
        self.outstanding = 0
        self.outstanding_area = self.outstanding_since = 0.0
        self.start(vcpus, pages_each, mixed, random.Random(seed))

    def start(self, vcpus: int, pages_each: int, mixed: bool, rng: random.Random) -> None:
        pages = [v * self.part_pages + p for v in range(vcpus) for p in range(pages_each)]
        if mixed:
            rng.shuffle(pages)
        self.make_handlers()
        for i, vcpu in enumerate(self.vcpus):
            mine = pages[i * pages_each:(i + 1) * pages_each]
            rng.shuffle(mine)
            self.sim.start(vcpu, self.run_vcpu(vcpu, mine))

    def make_handlers(self) -> None:
        if self.d.delivery != "queued":
            return
        if self.d.workers:
            for w in range(self.d.workers):
                mine = self.uffds[w::self.d.workers]
                self.add_handler(f"worker {w}", mine)
            return
        for u in self.uffds:
            for _ in range(self.d.readers or len(self.vcpus)):
                self.add_handler("reader", [u])

    def add_handler(self, name: str, uffds: List[Uffd]) -> None:
        # The engine's workers have a higher priority if permitted.
        t = Thread(name, precedence=self.d.workers > 0)
        for u in uffds:
            u.readers.append(t)
        self.handlers.append(t)
        self.later[t] = deque()
        self.sim.start(t, self.run_handler(t, uffds))

    # Address arithmetic.

    def uffd_of(self, page: int) -> Uffd:
        if self.d.uffds == 0:
            return self.uffds[page // self.part_pages]
        return self.uffds[page // BLOCK_PAGES % len(self.uffds)]

    def vma_of(self, page: int) -> Line:
        """Stripes of different userfaultfds are separate VMAs."""
        if self.d.uffds == 1 or self.d.delivery in ("kernel", "exit"):
            key = 0
        else:
            key = page // (self.part_pages if self.d.uffds == 0 else BLOCK_PAGES)
        if key not in self.vma_lines:
            self.vma_lines[key] = Line(self.sim, "vma: lock (read)")
        return self.vma_lines[key]

    def pte_of(self, page: int) -> Line:
        key = page // BLOCK_PAGES
        if key not in self.pte_lines:
            self.pte_lines[key] = Line(self.sim, "page table lock")
        return self.pte_lines[key]

    def miss_ns(self, core: int, last_core: int) -> float:
        return self.m.line_ns if core != last_core else 0.0

    # Counting.

    def count_outstanding(self, change: int) -> None:
        self.outstanding_area += self.outstanding * (self.sim.now - self.outstanding_since)
        self.outstanding_since = self.sim.now
        self.outstanding += change

    def begin(self) -> float:
        self.nr_faults += 1
        self.count_outstanding(+1)
        return self.sim.now

    def end(self, began: float) -> None:
        self.nr_ended += 1
        self.count_outstanding(-1)
        self.waits.append(self.sim.now - began)

    # The thread that touches.

    def run_vcpu(self, t: Thread, pages: List[int]) -> Iterator:
        m, burst = self.m, 0
        for page in pages:
            if self.present[page]:
                burst += 1
                if burst == BURST_PAGES:
                    yield from self.touch_mapped(t, burst)
                    burst = 0
            else:
                if burst:
                    yield from self.touch_mapped(t, burst)
                    burst = 0
                yield from self.fault(t, page)
                yield m.touch_ns
            self.nr_touched += 1
        if burst:
            yield from self.touch_mapped(t, burst)

    def touch_mapped(self, t: Thread, pages: int) -> Iterator:
        """The page is mapped in the process but, under KVM, not in the guest's tables."""
        m = self.m
        yield pages * m.touch_ns
        if self.d.kvm:
            exits = max(1, int(pages / m.kvm_around))
            yield exits * (m.kvm_exit_ns + m.kvm_map_ns)
            yield self.mmu_lock.use(t.core, 2 * exits)
        yield PREEMPT

    def fault(self, t: Thread, page: int) -> Iterator:
        began = self.begin()
        yield self.m.trap_ns + (self.m.kvm_exit_ns if self.d.kvm else 0)
        if self.d.delivery == "kernel":
            yield from self.fault_in_kernel(t, page)
        elif self.d.delivery == "queued":
            yield from self.fault_queued(t, page, began)
        else:
            yield from self.fault_in_context(t, page)
        if self.d.kvm:
            yield self.m.kvm_map_ns
            yield self.mmu_lock.use(t.core, 2)
        self.end(began)

    def take_mm(self, t: Thread, page: int) -> float:
        """Takes and releases the mapping's lock: mmap_lock for KVM and old kernels, else the VMA's."""
        line = self.mmap_lock if self.d.kvm or self.m.ioctl_mmap_lock else self.vma_of(page)
        return line.use(t.core, 2)

    def fault_in_kernel(self, t: Thread, page: int) -> Iterator:
        yield self.take_mm(t, page)
        yield max(self.m.map_ns, self.pte_of(page).use(t.core, hold_ns=self.m.pte_lock_ns))
        self.map_pages(page, page + 1)

    def fault_in_context(self, t: Thread, page: int) -> Iterator:
        """SIGBUS to the thread itself; or, by a patched KVM, an exit to its caller."""
        if self.d.delivery == "context":
            yield self.take_mm(t, page)
            yield self.m.signal_ns
            for _ in range(3):  # sent, taken, mask put back
                yield self.siglock
                yield self.m.siglock_ns
                self.siglock.release()
            yield self.m.engine_fault_ns
        else:
            yield self.m.syscall_ns + self.m.kvm_exit_ns
        lo, hi = self.window(page)
        yield from self.install(t, self.uffd_of(page), lo, hi)

    def fault_queued(self, t: Thread, page: int, began: float) -> Iterator:
        m, u = self.m, self.uffd_of(page)
        yield self.take_mm(t, page)
        fault = Fault(t, page, began)
        yield u.pending_lock
        yield m.enqueue_ns + (m.line_ns if u.blocked else 0)  # a neighbour's entry
        fault.entry_core = t.core
        u.pending.append(fault)
        u.blocked[fault] = None
        u.pending_lock.release()
        if self.present[page] and fault in u.blocked:  # userfaultfd_must_wait()
            yield u.pending_lock
            u.blocked.pop(fault, None)
            if fault in u.pending:
                u.pending.remove(fault)
            u.pending_lock.release()
            t.token = False
        else:
            yield from self.tell_reader(t, u)
            yield BLOCK
            if self.d.kvm:
                yield m.kvm_switch_ns
        yield self.mmap_lock.use(t.core, 2)
        yield m.retry_ns

    def tell_reader(self, t: Thread, u: Uffd) -> Iterator:
        """wake_up_poll(): the first that sleeps; those that do not are passed over."""
        m = self.m
        yield u.fd_lock
        passed = 0
        for reader in u.readers:
            passed += 1
            if reader in u.waiting:
                break
        else:
            reader = None
        # Each has an epoll set of its own: its list entry, and its lock.
        yield passed * (m.scan_ns + 2 * self.miss_ns(t.core, u.readers[0].core))
        if reader is not None and reader in u.waiting:
            yield self.waker_ns()
            if reader in u.waiting:
                for other in self.uffds if self.d.workers else (u,):
                    other.waiting.pop(reader, None)
                self.sim.wake(reader)
        u.fd_lock.release()

    def waker_ns(self) -> float:
        return self.m.waker_idle_ns if self.sim.has_idle() else self.m.waker_busy_ns

    # The threads that serve.

    def run_handler(self, t: Thread, uffds: List[Uffd]) -> Iterator:
        while True:
            ready = [u for u in uffds if u.pending]
            if not ready and self.later[t]:
                u, lo, hi = self.later[t].popleft()
                yield from self.install(t, u, lo, hi)
                continue
            if not ready:
                for u in uffds:
                    u.waiting[t] = None
                yield BLOCK
                continue
            yield self.m.poll_ns
            for u in ready:
                batch: List[Fault] = []
                yield from self.read(t, u, batch)
                if batch:
                    yield from self.serve(t, u, batch)

    def read(self, t: Thread, u: Uffd, batch: List[Fault]) -> Iterator:
        m = self.m
        yield m.syscall_ns
        while len(batch) < self.d.batch:
            yield u.fd_lock
            # The reader enters itself in front of the epoll sets, and leaves.
            yield self.miss_ns(t.core, u.read_core)
            u.read_core = t.core
            yield u.pending_lock
            fault = u.pending.popleft() if u.pending else None
            if fault:
                # Its entry moves to the list of those that were read: two neighbours, a head.
                yield m.refile_ns + 3 * self.miss_ns(t.core, fault.entry_core)
                fault.entry_core = t.core
                batch.append(fault)
            u.pending_lock.release()
            u.fd_lock.release()
            if not fault:
                break

    def serve(self, t: Thread, u: Uffd, batch: List[Fault]) -> Iterator:
        if self.d.workers:
            yield self.m.engine_batch_ns + len(batch) * self.m.engine_fault_ns
            batch.sort(key=lambda f: f.page)
        for fault in batch:
            if fault not in u.blocked:
                continue  # already woken together with a neighbour
            lo, hi = self.window(fault.page)
            if self.d.workers and hi - lo > FRONT_PAGES:
                front = fault.page // FRONT_PAGES * FRONT_PAGES
                for at in range(lo, hi, LATER_PAGES):
                    self.later[t].append((u, at, min(at + LATER_PAGES, hi)))
                lo, hi = front, front + FRONT_PAGES
            yield from self.install(t, u, lo, hi)

    def window(self, page: int) -> Tuple[int, int]:
        """fln_window_for(): each fault of a block doubles its window."""
        block = page // BLOCK_PAGES
        n = self.block_faults.get(block, 0)
        self.block_faults[block] = n + 1
        pages = min(self.d.window_max, self.d.window_first << min(n, 9))
        lo = page // pages * pages
        return lo, lo + pages

    def map_pages(self, lo: int, hi: int) -> None:
        for page in range(lo, hi):
            self.nr_installed += not self.present[page]
            self.present[page] = 1

    def install(self, t: Thread, u: Uffd, lo: int, hi: int) -> Iterator:
        """UFFDIO_CONTINUE of what is not mapped yet, and the wake at its end."""
        m = self.m
        absent = hi - lo - sum(self.present[lo:hi])
        waited = any(lo <= f.page < hi for f in u.blocked)
        if not absent and not waited:
            return
        yield m.syscall_ns + m.install_ns
        yield self.mm_users.use(t.core, 2)
        if m.ioctl_mmap_lock:
            yield self.mmap_lock.use(t.core, 2)
        else:
            yield self.vma_of(lo).use(t.core, 2)
            yield u.ctx.use(t.core, 2)
        if absent:
            yield max(absent * m.page_ns,
                      self.pte_of(lo).use(t.core, hold_ns=absent * m.pte_lock_ns))
            self.map_pages(lo, hi)
        if u.blocked and (waited or not self.d.workers):  # else with DONTWAKE
            yield from self.wake(t, u, lo, hi)

    def wake(self, t: Thread, u: Uffd, lo: int, hi: int) -> Iterator:
        """__wake_userfault(): all that are blocked on this userfaultfd are looked at."""
        m = self.m
        yield u.pending_lock
        # The head of those that were read has a lock of its own; neighbours are relinked.
        ns, woken = 2 * self.miss_ns(t.core, u.wake_core), []
        u.wake_core = t.core
        for fault in u.blocked:
            ns += m.scan_ns + self.miss_ns(t.core, fault.entry_core)
            fault.entry_core = t.core
            if lo <= fault.page < hi:
                woken.append(fault)
        yield ns
        for fault in woken:
            yield self.waker_ns()
            del u.blocked[fault]
            if fault in u.pending:
                u.pending.remove(fault)
            self.sim.wake(fault.vcpu)
        u.pending_lock.release()
