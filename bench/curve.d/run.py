# SPDX-License-Identifier: MIT
"""Runs the missing points, one process each."""
import ctypes
import os
import signal
import subprocess
import sys
import time

from keep import Folder
from points import BadResults, Name, Point, parse_benchmark_json, parse_name, si


class Failed(Exception):
    """Measuring is impossible."""


class Interrupted(Exception):
    """Interrupted by a signal; finished points are kept."""


LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """In the child: die together with bench/curve."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the parent was killed before prctl()
        os._exit(1)


def last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""


class Program:
    """faultlane-bench."""

    def __init__(self, path: str, memory: str, arguments: "list[str]", limit_s: float):
        self.path = path
        self.arguments = arguments
        self.limit_s = limit_s
        self.environment = {**os.environ, "FAULTLANE_BENCH_MEMORY": memory}
        self.child = None
        self.interrupted = False

    def interrupt(self, _signal, _frame) -> None:
        """
        The handler of signals.  An exception out of it could be lost: Python ignores those that
        come up in what it runs around fork().
        """
        self.interrupted = True
        self.stop()

    def names(self) -> "dict[Name, str]":
        """The benchmarks of this build, with Google Benchmark's names for them."""
        command = [self.path, "--benchmark_list_tests=true", *self.arguments]
        try:
            done = subprocess.run(command, env=self.environment, capture_output=True, text=True,
                                  timeout=60, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Failed(f"{self.path} cannot be run: {error}") from None
        if done.returncode != 0:
            raise Failed(f"{self.path} --benchmark_list_tests=true failed: "
                         f"{last_line(done.stderr) or done.returncode}")
        found = {}
        for line in done.stdout.splitlines():
            name = parse_name(line.strip())
            if name:
                found.setdefault(name, line.strip())
        return found

    def measure(self, name: Name, text: str, out_path: str) -> Point:
        """Runs a point; the result has an error if it failed."""
        command = [self.path, f"--benchmark_filter=^{text}$", f"--benchmark_out={out_path}",
                   "--benchmark_out_format=json", *self.arguments]
        own = os.getpid()
        with subprocess.Popen(command, env=self.environment, stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                              errors="replace", start_new_session=True,
                              preexec_fn=lambda: die_with_parent(own)) as self.child:
            try:
                if self.interrupted:  # the signal came before the child was started
                    self.stop()
                _, said = self.child.communicate(timeout=self.limit_s)
            except subprocess.TimeoutExpired:
                self.stop()
                self.child.communicate()
                return Point(name, 0, error=f"took longer than {self.limit_s:.0f} s (--limit)")
        if self.interrupted:
            raise Interrupted
        return self.read(name, out_path, said)

    def read(self, name: Name, out_path: str, said: str) -> Point:
        error = ""
        if self.child.returncode != 0:
            error = f"ended with {self.child.returncode}: {last_line(said)}"
        try:
            with open(out_path, encoding="utf-8") as file:
                _, points = parse_benchmark_json(file.read())
        except (OSError, BadResults) as unread:
            return Point(name, 0, error=error or f"wrote no figures: {last_line(said) or unread}")
        for point in points:
            if point.name == name:
                point.error = point.error or error
                return point
        return Point(name, 0, error=error or "wrote no figures of that name")

    def stop(self) -> None:
        if self.child and self.child.returncode is None:
            self.child.kill()


def left_out(point: Point) -> bool:
    """The benchmark was left out on this machine, which is not a failure."""
    return point.error.startswith("left out: ")


class Progress:
    """Progress: one updated line on a terminal, else a line per point."""

    def __init__(self, todo: "list[tuple[Name, int]]", nr_kept: int):
        self.todo = todo
        self.nr_done = nr_kept
        self.nr_all = nr_kept + len(todo)
        self.took: "dict[tuple, list[float]]" = {}
        self.tty = sys.stderr.isatty()

    def kind(self, name: Name) -> tuple:
        return (name.family, name.design, name.density)

    def left_s(self) -> "float | None":
        """Estimates the remaining time by similar points; None if there are none yet."""
        every = [s for times in self.took.values() for s in times]
        if not every:
            return None
        usual = sum(every) / len(every)
        total = 0.0
        for name, _ in self.todo:
            times = self.took.get(self.kind(name))
            total += sum(times) / len(times) if times else usual
        return total

    def left_words(self) -> str:
        left = self.left_s()
        if left is None:
            return ""
        minutes, seconds = divmod(round(left), 60)
        return f", {minutes}:{seconds:02} left"

    def line(self, text: str) -> None:
        if self.tty:
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)

    def begin(self, name: Name) -> None:
        self.line(f"  {self.nr_done + 1} of {self.nr_all}{self.left_words()}: {name.words()} ...")

    def end(self, point: Point, took_s: float) -> None:
        self.nr_done += 1
        self.todo = self.todo[1:]
        self.took.setdefault(self.kind(point.name), []).append(took_s)
        if left_out(point):
            said = point.error
        elif point.error:
            said = f"FAILED: {point.error}"
        else:
            said = (f"{si(point.counters['pages_per_second'])} pages/s, "
                    f"{point.counters.get('cpu_us_per_page', 0):.3g} µs CPU a page")
        if point.error or not self.tty:
            self.line("")
            print(f"  {self.nr_done} of {self.nr_all}: {point.name.words()}: {said}",
                  file=sys.stderr, flush=True)

    def clear(self) -> None:
        self.line("")


def plan(names: "list[Name]", repetitions: int, designs: "list[str]") -> "list[tuple[Name, int]]":
    """Interleaves designs in rotating order, so that drift affects all alike."""
    def key(entry):
        name, repetition = entry
        turn = designs.index(name.design)
        step = (turn - repetition) % len(designs)
        return (repetition, name.family, name.threads, name.density, step)

    return sorted(((name, r) for name in names for r in range(repetitions)), key=key)


def measure_all(program: Program, texts: "dict[Name, str]", todo: "list[tuple[Name, int]]",
                folder: Folder, nr_kept: int) -> "list[Point]":
    """Runs and stores the points.  Returns those that failed; raises Interrupted."""
    progress = Progress(todo, nr_kept)
    failures = []
    handlers = [(s, signal.signal(s, program.interrupt)) for s in (signal.SIGINT, signal.SIGTERM)]
    try:
        for name, repetition in todo:
            progress.begin(name)
            start = time.monotonic()
            point = program.measure(name, texts[name], folder.scratch_path())
            point.repetition = repetition
            if point.error:
                failures.append(point)
            else:
                folder.keep(name, repetition)
            progress.end(point, time.monotonic() - start)
    finally:
        progress.clear()
        for number, handler in handlers:
            signal.signal(number, handler)
    return failures
