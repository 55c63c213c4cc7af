# SPDX-License-Identifier: MIT
"""Parses names of benchmarks and Google Benchmark's output."""
import json
import statistics
from dataclasses import asdict, dataclass, field

# The measured values, in the order of CSV files and documents.
COUNTERS = (
    "pages_per_second",
    "cpu_us_per_page",
    "worker_cpu_us_per_page",
    "touch_p50_us",
    "touch_p99_us",
    "touch_p999_us",
    "fault_p50_us",
    "fault_p99_us",
    "switches_per_page",
    "faults_per_page",
    "runqueue_wait_us",
    "worker_runqueue_wait_us",
    "faulted_p50_us",
    "faulted_p99_us",
    "faulted_p999_us",
    "seconds",
    "cpu_used_by_others",
    "noisy",
    "remeasured",
    "fill_seconds",
    "settled_cpu_us_per_page",
    "settle_seconds",
    "memory_bytes",
    "page_table_bytes",
    "large_folio_bytes",
    "large_mapped_bytes",
    "released_bytes",
    "userfaultfds_at_end",
)

# The names of the designs in documents.
LABELS = {
    "kernel": "plain kernel",
    "kernel_populate": "plain kernel, populated",
    "kernel_huge": "plain kernel, 2 MiB pages",
    "single": "one userfaultfd",
    "single_window": "one userfaultfd, windows",
    "per_vcpu": "one userfaultfd per thread",
    "engine": "faultlane",
    "engine_released": "faultlane, released before",
    "engine_small": "faultlane, 4 KiB, registered",
    "engine_page": "faultlane, windows of a page",
    "engine_in_context": "faultlane, in context",
}

# Families whose names end in the number of threads.
FAMILIES = ("touch", "weak", "kvm")


class BadResults(Exception):
    """A file has unexpected contents."""


def label(design: str) -> str:
    return LABELS.get(design, design)


def density_words(density: int) -> str:
    return "every page" if density == 1 else f"one page in {density}"


def grouped(value: float) -> str:
    """Formats 1234567 as "1 234 567"."""
    return f"{value:,.0f}".replace(",", " ")


def si(value: float) -> str:
    """Formats a rate compactly: 36 k, 1.25 M."""
    for limit, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.3g}"


@dataclass(frozen=True, order=True)
class Name:
    """<family>/<design>/<order>/<op>/density:<D>/share:<S>/threads:<N>; vcpus:<N> alone with kvm/"""

    family: str
    design: str
    order: str
    op: str
    density: int
    share: str
    threads: int

    def text(self) -> str:
        begin = f"{self.family}/{self.design}/{self.order}/{self.op}/density:{self.density}"
        if self.family == "kvm":
            return f"{begin}/vcpus:{self.threads}"
        return f"{begin}/share:{self.share}/threads:{self.threads}"

    def words(self) -> str:
        unit = "vCPU" if self.family == "kvm" else "thread"
        several = "" if self.threads == 1 else "s"
        return f"{label(self.design)}, {density_words(self.density)}, {self.threads} {unit}{several}"


def parse_name(text: str) -> "Name | None":
    """Parses a name, ignoring Google Benchmark's suffixes; None for other families."""
    words = [w for w in text.split("/") if ":" not in w]
    values = dict(w.split(":", 1) for w in text.split("/") if ":" in w)
    threads = values.get("vcpus" if words[0] == "kvm" else "threads")
    if words[0] not in FAMILIES or len(words) < 4 or threads is None or {"window", "folio"} & set(values):
        return None
    try:
        return Name(words[0], words[1], words[2], words[3], int(values["density"]),
                    values.get("share", "disjoint"), int(threads))
    except (KeyError, ValueError):
        return None


@dataclass
class Point:
    """The result of one run of one benchmark."""

    name: Name
    repetition: int
    counters: dict = field(default_factory=dict)
    error: str = ""

    def get(self, counter: str) -> "float | None":
        return self.counters.get(counter)

    def row(self) -> dict:
        return {**asdict(self.name), "repetition": self.repetition, **self.counters}


# Google Benchmark's own keys of a run; all other numbers are counters.
NOT_COUNTERS = {
    "name", "family_index", "per_family_instance_index", "run_name", "run_type", "repetitions",
    "repetition_index", "threads", "iterations", "real_time", "cpu_time", "time_unit", "label",
    "aggregate_name", "aggregate_unit", "error_occurred", "error_message",
}


def parse_benchmark_json(text: str) -> "tuple[dict, list[Point]]":
    """Reads a file.  Returns its context, and the points of families with a number of threads."""
    try:
        data = json.loads(text)
        runs = data["benchmarks"]
    except (ValueError, KeyError, TypeError) as error:
        raise BadResults(f"not what Google Benchmark writes as JSON ({error})") from None
    points = []
    for run in runs:
        name = parse_name(run.get("run_name", run["name"]))
        if name is None or run.get("run_type") == "aggregate":
            continue
        point = Point(name, int(run.get("repetition_index", 0)))
        if run.get("error_occurred"):
            point.error = run.get("error_message") or "failed without a reason"
        else:
            point.counters = {key: float(value) for key, value in run.items()
                              if key not in NOT_COUNTERS and isinstance(value, (int, float))}
            if not point.counters.get("pages_per_second", 0) > 0:
                point.error = "reports no pages_per_second"
        points.append(point)
    return data.get("context", {}), points


class Series:
    """The points of one family, design and density, by number of threads."""

    def __init__(self, points: "list[Point]"):
        self.points = [p for p in points if not p.error]
        self.threads = sorted({p.name.threads for p in self.points})

    def values(self, threads: int, counter: str) -> "list[float]":
        found = [p.get(counter) for p in self.points if p.name.threads == threads]
        return [v for v in found if v is not None]

    def medians(self, counter: str) -> "tuple[list[int], list[float]]":
        """Returns threads and medians, without numbers of threads that lack this counter."""
        xs, ys = [], []
        for threads in self.threads:
            values = self.values(threads, counter)
            if values:
                xs.append(threads)
                ys.append(statistics.median(values))
        return xs, ys

    def ranges(self, counter: str) -> "tuple[list[int], list[float], list[float]]":
        xs, _ = self.medians(counter)
        return (xs, [min(self.values(x, counter)) for x in xs],
                [max(self.values(x, counter)) for x in xs])


def series_of(points: "list[Point]") -> "dict[tuple[str, str, int], Series]":
    """Groups points by (family, design, density), with designs in the order of LABELS."""
    order = list(LABELS)
    keys = {(p.name.family, p.name.design, p.name.density) for p in points if not p.error}

    def rank(key):
        return (key[0], key[2], order.index(key[1]) if key[1] in order else len(order), key[1])

    return {key: Series([p for p in points
                         if (p.name.family, p.name.design, p.name.density) == key])
            for key in sorted(keys, key=rank)}
