# SPDX-License-Identifier: MIT
"""Runs a simulation and summarises its result."""
from dataclasses import dataclass
from typing import Dict, List, Tuple

from designs import Design
from faults import World
from machine import Machine


@dataclass
class Result:
    design: str
    vcpus: int
    cores: int
    rate_k: float             # thousand pages touched per second
    cpu_us: float             # of all threads, per page
    wait_us: float            # mean time of a touch that faulted
    wait_p99_us: float
    faults_per_page: float
    busy: List[Tuple[float, str]]   # how much of the time, the busiest first
    wait_at: Dict[str, float]       # µs per fault spent waiting at it
    little: float             # mean number of faults under way, by Little's law / counted

    @property
    def limit(self) -> str:
        share, name = self.busy[0]
        # Spinning threads keep processors busy: then the processors are not the bottleneck.
        if name == "all processors" and self.busy[1][0] > 0.85:
            share, name = self.busy[1]
        return f"{name} {100 * share:.0f} %" if share > 0.5 else f"latency ({name} {100 * share:.0f} %)"


def pages_for(design: Design, vcpus: int) -> int:
    """The number of pages for a steady state; windows need whole blocks."""
    if design.window_max > 1:
        return 1024 if vcpus <= 64 else 512
    return max(16, min(400, 4000 // vcpus))


def run(machine: Machine, design: Design, vcpus: int, pages_each: int = 0,
        mixed: bool = False, seed: int = 1) -> Tuple[Result, World]:
    pages = pages_each or pages_for(design, vcpus)
    w = World(machine, design, vcpus, pages, mixed, seed)
    w.sim.run()
    now, touched = w.sim.now, w.nr_touched
    faults = max(1, w.nr_ended)
    w.count_outstanding(0)

    busy: Dict[str, float] = {}
    wait_at: Dict[str, float] = {}
    for q in w.sim.locks + w.sim.lines:
        busy[q.name] = max(busy.get(q.name, 0), q.busy_ns / now)
        wait_at[q.name] = wait_at.get(q.name, 0) + q.wait_ns / 1e3 / faults
    for t in w.handlers:
        kind = f"a {t.name.split()[0]}'s processor time"
        busy[kind] = max(busy.get(kind, 0), t.cpu_ns / now)
    cpu = sum(t.cpu_ns for t in w.sim.threads)
    busy["all processors"] = cpu / now / machine.cores
    waits = sorted(w.waits) or [0.0]
    mean_wait = sum(waits) / len(waits)
    counted = w.outstanding_area / now
    little = (len(w.waits) / now * mean_wait) / counted if counted else 1.0
    return Result(design.name, vcpus, machine.cores, touched / now * 1e6, cpu / 1e3 / touched,
                  mean_wait / 1e3, waits[int(0.99 * (len(waits) - 1))] / 1e3, faults / touched,
                  sorted(((b, n) for n, b in busy.items()), reverse=True), wait_at, little), w
