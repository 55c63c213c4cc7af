# SPDX-License-Identifier: MIT
"""A machine as queues: processors, threads, spinlocks, and cache lines that many write.

A thread is a generator.  It yields

    a number    run for so many nanoseconds
    a Lock      take it, spinning on the processor; given back by lock.release()
    BLOCK       sleep until somebody calls wake(); a wake that came before counts
    PREEMPT     let threads of precedence have the processor, if some wait for one

Everything between two yields happens at one moment.  Spinlocks hand over first come, first
served, as the kernel's queued spinlocks do.  A Line is what is left of a lock without a
critical section: an atomic counter that many processors write, one after the other.
"""
import heapq
from collections import deque
from typing import Deque, Dict, Generator, List, Optional, Tuple

BLOCK = object()
PREEMPT = object()


class Thread:
    """A thread; the generator `program` yields its steps."""

    def __init__(self, name: str, precedence: bool = False):
        self.name = name
        self.precedence = precedence
        self.program: Optional[Generator] = None
        self.core = -1          # where it runs, or ran last
        self.token = False      # woken before it slept
        self.asleep = False
        self.done = False
        self.cpu_ns = 0.0       # running, spinning, switching
        self.spun_since = 0.0


class Line:
    """A contended cache line: writers get it one after another."""

    def __init__(self, sim: "Sim", name: str):
        self.sim, self.name = sim, name
        self.free_at = 0.0
        self.last_core = -1
        self.busy_ns = self.wait_ns = 0.0
        self.uses = 0
        sim.lines.append(self)

    def use(self, core: int, times: int = 1, hold_ns: float = 0.0) -> float:
        """Nanoseconds until `times` writes are done, each with `hold_ns` of exclusive work."""
        sim = self.sim
        contended = self.free_at > sim.now
        # A contended line moves at every write; otherwise only the first write fetches it.
        moves = times if contended else (self.last_core != core)
        cost = moves * sim.line_ns + times * (hold_ns + sim.atomic_ns)
        start = max(sim.now, self.free_at)
        self.wait_ns += start - sim.now
        self.busy_ns += cost
        self.uses += times
        self.free_at = start + cost
        self.last_core = core
        return self.free_at - sim.now


class Lock:
    """A queued spinlock.  Contended, it costs two transfers: the successor's node, the word."""

    def __init__(self, sim: "Sim", name: str):
        self.sim, self.name = sim, name
        self.owner: Optional[Thread] = None
        self.queue: Deque[Thread] = deque()
        self.last_core = -1
        self.busy_ns = self.wait_ns = 0.0
        self.uses = 0
        self.taken_at = 0.0
        sim.locks.append(self)

    def give(self, thread: Thread, cost: float) -> None:
        sim = self.sim
        self.owner = thread
        self.last_core = thread.core
        self.taken_at = sim.now
        self.uses += 1
        self.wait_ns += sim.now - thread.spun_since
        thread.cpu_ns += sim.now - thread.spun_since + cost
        sim.at(sim.now + cost, thread)

    def take(self, thread: Thread) -> None:
        thread.spun_since = self.sim.now
        if self.owner is None:
            self.give(thread, self.sim.atomic_ns +
                      (self.sim.line_ns if self.last_core != thread.core else 0.0))
        else:
            self.queue.append(thread)

    def release(self) -> None:
        self.busy_ns += self.sim.now - self.taken_at
        self.owner = None
        if self.queue:
            self.give(self.queue.popleft(), 2 * self.sim.line_ns)


class Sim:
    def __init__(self, cores: int, line_ns: float, atomic_ns: float, switch_ns: float,
                 idle_wake_ns: float, switch_writes: int):
        self.line_ns, self.atomic_ns = line_ns, atomic_ns
        self.switch_ns, self.idle_wake_ns = switch_ns, idle_wake_ns
        self.switch_writes = switch_writes
        self.now = 0.0
        self.heap: List[Tuple[float, int, Thread]] = []
        self.serial = 0
        self.locks: List[Lock] = []
        self.lines: List[Line] = []
        self.threads: List[Thread] = []
        self.idle: Dict[int, None] = dict.fromkeys(range(cores))  # in the order they became so
        self.cores = cores
        self.ready: Deque[Thread] = deque()
        self.ready_first: Deque[Thread] = deque()
        # What all threads of a process write when one stops or goes on running.
        self.switches = Line(self, "process: thread switch")

    def at(self, when: float, thread: Thread) -> None:
        self.serial += 1
        heapq.heappush(self.heap, (when, self.serial, thread))

    def start(self, thread: Thread, program: Generator) -> None:
        thread.program = program
        thread.asleep = True
        self.threads.append(thread)
        self.wake(thread)

    def has_idle(self) -> bool:
        return bool(self.idle)

    def wake(self, thread: Thread) -> None:
        """Makes a thread runnable.  The waker yields the cost of that itself."""
        if not thread.asleep:
            thread.token = True
            return
        thread.asleep = False
        if not self.idle:
            (self.ready_first if thread.precedence else self.ready).append(thread)
            return
        # Prefer its last processor, for warm caches; else the one idle for longest.
        core = thread.core if thread.core in self.idle else next(iter(self.idle))
        del self.idle[core]
        thread.core = core
        delay = self.switches.use(core, self.switch_writes)
        thread.cpu_ns += self.switch_ns + delay
        self.at(self.now + self.idle_wake_ns + delay, thread)

    def leave(self, core: int) -> None:
        """Frees a processor: it runs the next thread in the queue or becomes idle."""
        self.switches.use(core, self.switch_writes)
        queue = self.ready_first or self.ready
        if queue:
            thread = queue.popleft()
            thread.core = core
            delay = self.switch_ns + self.switches.use(core, self.switch_writes)
            thread.cpu_ns += delay
            self.at(self.now + delay, thread)
            return
        self.idle[core] = None

    def step(self, thread: Thread) -> None:
        while True:
            try:
                what = next(thread.program)
            except StopIteration:
                thread.done = True
                self.leave(thread.core)
                return
            if what is BLOCK:
                if thread.token:
                    thread.token = False
                    continue
                thread.asleep = True
                self.leave(thread.core)
                return
            if what is PREEMPT:
                if not self.ready_first:
                    continue
                self.ready.append(thread)
                self.leave(thread.core)
                return
            if isinstance(what, Lock):
                what.take(thread)
                return
            thread.cpu_ns += what
            self.at(self.now + what, thread)
            return

    def run(self) -> None:
        while self.heap:
            self.now, _, thread = heapq.heappop(self.heap)
            self.step(thread)
