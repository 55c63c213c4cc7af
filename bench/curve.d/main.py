# SPDX-License-Identifier: MIT
"""The command line and the sequence of steps."""
import argparse
import hashlib
import os
import subprocess
import sys
import time

import machine
from keep import Folder, Refusal, write_whole
from points import BadResults, Name, density_words, label, si
from run import Failed, Interrupted, Program, left_out, measure_all, plan

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
DESIGNS = ("kernel", "kernel_huge", "single", "single_window", "per_vcpu", "engine", "engine_small",
           "engine_released", "engine_in_context")
# Designs that the program may lack; they are then skipped silently.
MAY_LACK = ("kernel_huge", "per_vcpu", "engine_small", "engine_released", "engine_in_context")
QUICK_DESIGNS = ("kernel", "kernel_huge", "single", "engine", "engine_small", "engine_released")
QUICK_THREADS = (1, 4, 16, 64, 256)
OK, FAILED, USAGE = 0, 1, 2

DESCRIPTION = """\
Measures how each design scales from 1 to 256 threads that touch memory for the first time, every
page and one page in 64, by faultlane-bench; fits the universal scalability law; writes curve.json,
curve.csv, fit.txt and pictures (rate, cpu, latency; SVG and PNG).  Builds first if that is needed.

It can be interrupted at any time: every finished point is kept in the folder of --out, and the
same command goes on from there.
"""


def numbers(text: str) -> "list[int]":
    try:
        found = sorted({int(word) for word in text.replace(",", " ").split()})
    except ValueError:
        found = []
    if not found or found[0] < 1:
        raise argparse.ArgumentTypeError(f"'{text}': give numbers from 1 up, such as 1,4,16")
    return found


def words(text: str) -> "list[str]":
    found = text.replace(",", " ").split()
    if not found:
        raise argparse.ArgumentTypeError("give at least one name")
    return found


def parse(argv: "list[str] | None") -> argparse.Namespace:
    p = argparse.ArgumentParser(prog="bench/curve", description=DESCRIPTION,
                                formatter_class=argparse.RawDescriptionHelpFormatter,
                                epilog="docs/BENCHMARK.md says how to prepare a large machine, and "
                                "how to read what comes out.")
    p.add_argument("--quick", action="store_true",
                   help="six designs, threads 1 4 16 64 256, 512 MiB, once each: under three minutes on two "
                   "cores")
    p.add_argument("--out", metavar="FOLDER",
                   help="where points and results are kept (build/curve, build/curve-quick)")
    p.add_argument("--fresh", action="store_true",
                   help="measure all of it anew; what is in the folder is put aside")
    p.add_argument("--from", dest="source", metavar="FILE.json",
                   help="measure nothing: fit and draw what curve.json, or a file that Google "
                   "Benchmark wrote, has; into --out, or beside the file")
    what = p.add_argument_group("what is measured")
    what.add_argument("--threads", type=numbers, metavar="N,...",
                      help="1, 2, 4 ... 256, and on to the number of processors where there are more")
    what.add_argument("--designs", type=words, metavar="D,...", help=" ".join(DESIGNS))
    what.add_argument("--density", type=numbers, metavar="D,...", default=[1, 64],
                      help="one page in D is touched (1,64)")
    what.add_argument("--repetitions", type=int, metavar="R",
                      help="of each point; designs take turns between them (3; with --quick 1)")
    what.add_argument("--memory", metavar="SIZE",
                      help="in all, such as 1G (1G; with --quick 512M)")
    what.add_argument("--order", choices=("random", "sequential"), default="random")
    what.add_argument("--op", choices=("read", "write"), default="write")
    what.add_argument("--share", choices=("mixed", "disjoint"), default="mixed",
                      help="pages are dealt out over all threads, or each has its own part (mixed)")
    what.add_argument("--weak", action="store_true",
                      help="64 MiB a thread, as in the published curve, instead of --memory in all")
    what.add_argument("--kvm", action="store_true", help="also with KVM vCPUs as threads")
    what.add_argument("--pin", choices=("none", "compact", "scatter"), default="none",
                      help="of the touching threads (none)")
    how = p.add_argument_group("how")
    how.add_argument("--limit", type=float, metavar="S", default=300,
                     help="seconds that one point may take (300)")
    how.add_argument("--program", metavar="FILE",
                     help="a faultlane-bench that is built already; nothing is built then")
    how.add_argument("--no-pictures", action="store_true",
                     help="write curve.json and curve.csv only, which needs no matplotlib; --from fits "
                     "and draws them, here or elsewhere")
    how.add_argument("--no-setup", action="store_true", help="do not look for missing packages")
    how.add_argument("--yes", action="store_true", help="install missing packages without asking")
    o = p.parse_args(argv)
    if o.repetitions is not None and o.repetitions < 1:
        p.error("--repetitions: give a number from 1 up")
    complete(o)
    return o


def complete(o: argparse.Namespace) -> None:
    """Fills in the defaults of options that were not given."""
    processors = machine.describe()["processors"]
    if o.threads is None:
        o.threads = list(QUICK_THREADS) if o.quick else all_threads(processors)
    o.asked_designs = o.designs
    o.designs = o.designs or list(QUICK_DESIGNS if o.quick else DESIGNS)
    o.repetitions = o.repetitions or (1 if o.quick else 3)
    o.memory = o.memory or ("512M" if o.quick else "1G")
    if o.source:
        o.out = o.out or os.path.dirname(os.path.abspath(o.source))
    else:
        o.out = o.out or os.path.join(ROOT, "build", "curve-quick" if o.quick else "curve")


def all_threads(processors: int) -> "list[int]":
    most = max(256, processors)
    found = []
    threads = 1
    while threads < most:
        found.append(threads)
        threads *= 2
    return [*found, most]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def quietly(what: str, command: "list[str]") -> None:
    """Runs a preparation step; shows the end of its output when it fails."""
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          check=False)
    if done.returncode != 0:
        for line in (done.stdout + done.stderr).splitlines()[-25:]:
            say(line)
        raise Failed(f"{what} failed: {' '.join(command)}")


def prepare(o: argparse.Namespace) -> str:
    """Installs packages and builds the program.  Returns its path."""
    if not o.no_setup:
        command = [os.path.join(ROOT, "setup"), "--curve"] + (["--yes"] if o.yes else [])
        if subprocess.run(command, check=False).returncode != 0:
            raise Failed("packages are missing; see above, and ./setup --help")
    try:
        if not o.no_pictures:
            import draw  # noqa: F401
    except ImportError as error:
        raise Failed(f"{error}; install python3-matplotlib, python3-numpy and python3-scipy, "
                     "run by /usr/bin/python3, or give --no-pictures") from None
    if o.source or o.program:
        return os.path.abspath(o.program) if o.program else ""
    say("bench/curve: building")
    quietly("configuring", ["cmake", "--preset", "release"])
    quietly("building", ["cmake", "--build", "--preset", "release", "--target", "bin/faultlane-bench"])
    return os.path.join(ROOT, "build", "release", "bin", "faultlane-bench")


def conditions(o: argparse.Namespace, program: str) -> dict:
    """The values that must be the same for all points of a folder."""
    try:
        with open(program, "rb") as file:
            digest = hashlib.sha256(file.read()).hexdigest()[:16]
    except OSError as error:
        raise Failed(f"{program}: {error.strerror}") from None
    return {"machine": machine.describe(), "program": digest, "memory": o.memory, "pin": o.pin}


def wanted(o: argparse.Namespace, there: "dict[Name, str]") -> "list[Name]":
    """The benchmark names to measure; reports those that this build lacks."""
    families = ["weak" if o.weak else "touch"] + (["kvm"] if o.kvm else [])
    found = []
    for family in families:
        for design in o.designs:
            # Each vCPU has its own part of the memory.
            share = "disjoint" if family == "kvm" else o.share
            names = [Name(family, design, o.order, o.op, density, share, threads)
                     for density in o.density for threads in o.threads]
            have = [name for name in names if name in there]
            found += have
            if have and len(have) < len(names):
                lack = sorted({n.threads for n in names} - {n.threads for n in have})
                say(f"bench/curve: {family}/{design}: the program has not all of it"
                    + (f", threads {lack}" if lack else "") + "; left out")
            if not have and (o.asked_designs or design not in MAY_LACK) and family != "kvm":
                say(f"bench/curve: {names[0].text()} and its like are not in the program; left out")
        if not any(name.family == family for name in found):
            raise Failed(f"the program has no benchmarks of the family '{family}' like that; "
                         "--benchmark_list_tests=true of faultlane-bench lists what it has")
    return found


def measure(o: argparse.Namespace, program_path: str) -> "tuple[dict, list, list]":
    same = conditions(o, program_path)
    folder = Folder(o.out)
    folder.open(same, o.fresh)
    arguments = [f"--pin={o.pin}", f"--threads={','.join(str(n) for n in o.threads)}"]
    if o.quick:
        arguments.append("--retries=1")
    program = Program(program_path, o.memory, arguments, o.limit)
    there = program.names()
    entries = plan(wanted(o, there), o.repetitions, o.designs)
    kept = {entry: folder.load(*entry) for entry in entries}
    todo = [entry for entry in entries if kept[entry] is None]
    nr_kept = len(entries) - len(todo)
    if nr_kept:
        say(f"bench/curve: {nr_kept} of {len(entries)} points are in {o.out} already"
            + ("" if todo else "; --fresh measures them anew"))
    try:
        failures = measure_all(program, there, todo, folder, nr_kept)
    except Interrupted:
        nr = sum(folder.load(*entry) is not None for entry in entries)
        say(f"bench/curve: interrupted; {nr} of {len(entries)} points are kept in {o.out}, and the "
            "same command goes on")
        raise
    points = [point for point in (folder.load(*entry) for entry in entries) if point]
    about = {**same, "date": time.strftime("%Y-%m-%d"), "repetitions": o.repetitions,
             "order": o.order, "op": o.op, "share": o.share}
    return about, points, failures


def fits_of(about: dict, points: list) -> "tuple[list[dict], str]":
    """Fits all series.  Returns the fits as data and as text."""
    import usl
    from points import series_of

    fits, lines = [], []
    for (family, design, density), series in series_of(points).items():
        runs = [(p.name.threads, p.get("pages_per_second")) for p in series.points]
        found = usl.fit([n for n, _ in runs], [x for _, x in runs])
        text = usl.describe(found, si)
        fits.append({"family": family, "design": design, "density": density, **found.json(),
                     "words": text})
        where = "" if family == "touch" else f"{family}, "
        lines.append(f"{label(design)} ({where}{density_words(density)}): {text}")
    most = max(p.name.threads for p in points)
    warnings = [usl.caution(about.get("machine", {}).get("processors") or 0, most),
                usl.disturbed(sum(bool(p.get("noisy")) for p in points), len(points))]
    head = ("Universal scalability law X(N) = λN / (1 + σ(N−1) + κN(N−1)), fitted to each design's rate; "
            "± is half of what\n95 % of 1 000 bootstrapped fits span.")
    return fits, "\n".join([head, *filter(None, warnings), "", *lines]) + "\n"


def deliver(o: argparse.Namespace, about: dict, points: list, failures: list) -> None:
    """Fits, writes and draws the results."""
    from write import to_csv, to_json

    if not points:
        raise Failed("there is nothing to draw: no point came to figures")
    os.makedirs(o.out, exist_ok=True)
    fits, text = ([], "") if o.no_pictures else fits_of(about, points)
    same_file = o.source and os.path.realpath(o.source) == os.path.realpath(
        os.path.join(o.out, "curve.json"))
    if not same_file:
        write_whole(os.path.join(o.out, "curve.json"), to_json(about, points, failures, fits))
    write_whole(os.path.join(o.out, "curve.csv"), to_csv(points))
    if o.no_pictures:
        say(f"bench/curve: {o.out}/curve.json, curve.csv; --from curve.json fits and draws them")
    else:
        import draw

        write_whole(os.path.join(o.out, "fit.txt"), text)
        draw.all_pictures(o.out, about, points)
        print(text, end="")
        say(f"bench/curve: {o.out}/rate.png, cpu.png, latency.png (and .svg), curve.json, curve.csv, "
            "fit.txt")
    for point in failures:
        failed = "" if left_out(point) else "FAILED: "
        say(f"bench/curve: {point.name.text()}: {failed}{point.error}")


def main(argv: "list[str] | None" = None) -> int:
    o = parse(argv)
    try:
        program = prepare(o)
        if o.source:
            from write import from_file
            about, points, failures = from_file(o.source)
        else:
            about, points, failures = measure(o, program)
        deliver(o, about, points, failures)
    except (Interrupted, KeyboardInterrupt):
        return 130
    except Refusal as refusal:
        say(f"bench/curve: {refusal}")
        return USAGE
    except (Failed, BadResults) as error:
        say(f"bench/curve: {error}")
        return FAILED
    return FAILED if any(not left_out(point) for point in failures) else OK
