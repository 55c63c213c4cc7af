#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""bench/curve against made-up figures: what it fits, keeps, goes on from, writes and draws."""
import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import unittest.mock

HERE = os.path.dirname(os.path.realpath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
CURVE = os.path.join(ROOT, "bench", "curve")
MADE_UP = os.path.join(HERE, "made-up-bench")
LIMIT_S = 60

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(ROOT, "bench", "curve.d"))

try:
    import matplotlib  # noqa: F401
    import numpy
    import scipy  # noqa: F401
except ImportError as missing:
    print(f"SKIP: {missing}; ./setup --curve installs it")
    sys.exit(77)

import published  # noqa: E402
import run  # noqa: E402
import usl  # noqa: E402
import write  # noqa: E402
from points import Name, parse_name, si  # noqa: E402

THREADS = [1, 2, 4, 8, 16, 32, 64, 128, 256]


def noisy(rate_one: float, sigma: float, kappa: float, noise: float, seed: int):
    """Three runs at each number of threads."""
    random = numpy.random.default_rng(seed)
    threads = THREADS * 3
    n = numpy.array(threads, dtype=float)
    rates = usl.law(n, rate_one, sigma, kappa) * numpy.exp(random.normal(0, noise, len(n)))
    return threads, list(rates)


class FitTest(unittest.TestCase):
    def test_recovers_what_was_put_in(self):
        for rate_one, sigma, kappa in ((1e5, 0.02, 1e-4), (8e5, 0.3, 0), (2e5, 0.7, 5e-3), (5e5, 0, 2e-4)):
            found = usl.fit(THREADS, usl.law(numpy.array(THREADS, dtype=float), rate_one, sigma, kappa))
            self.assertEqual(found.meaningless, "")
            self.assertAlmostEqual(found.rate_one / rate_one, 1, places=6)
            self.assertAlmostEqual(found.sigma, sigma, places=6)
            self.assertAlmostEqual(found.kappa, kappa, places=9)

    def test_ranges_hold_the_truth_and_shrink_with_the_noise(self):
        widths = []
        patched = unittest.mock.patch.object(usl, "BOOTSTRAPS", 200)
        patched.start()
        self.addCleanup(patched.stop)
        for noise in (0.02, 0.08):
            inside = 0
            for seed in range(20):
                found = usl.fit(*noisy(3e5, 0.05, 3e-4, noise, seed))
                low, high = found.sigma_range
                inside += low <= 0.05 <= high
            # 95 % of them are meant to; fewer than 15 of 20 has odds of one in a thousand.
            self.assertGreaterEqual(inside, 15)
            widths.append(high - low)
        self.assertLess(widths[0], widths[1])

    def test_tells_a_kappa_from_none(self):
        peaked = usl.fit(*noisy(3e5, 0.1, 1e-3, 0.03, 1))
        self.assertAlmostEqual(peaked.peak_threads, (0.9 / 1e-3) ** 0.5, delta=4)
        self.assertIn("most at", usl.describe(peaked, si))
        flat = usl.fit(*noisy(3e5, 0.1, 0, 0.03, 1))
        self.assertIsNone(flat.peak_threads)
        self.assertIn("κ below what can be told from zero", usl.describe(flat, si))
        self.assertIn("grows towards", usl.describe(flat, si))

    def test_says_where_it_is_meaningless(self):
        few = usl.fit([1, 2, 4, 8], [1, 2, 3, 4])
        self.assertIn("too few", few.meaningless)
        shape = usl.fit(THREADS, [100, 900, 100, 900, 100, 900, 100, 900, 100])
        self.assertIn("another shape", shape.meaningless)
        faster = usl.fit(THREADS, [n**1.2 for n in THREADS])
        self.assertIn("faster than the threads", faster.meaningless)
        for found in (few, shape, faster):
            self.assertIn("no fit worth the name", usl.describe(found, si))
            json.dumps(found.json(), allow_nan=False)
        self.assertIn("share 2 cores", usl.caution(2, 256))
        self.assertEqual(usl.caution(256, 256), "")
        self.assertIn("41 of 50 points", usl.disturbed(41, 50))
        self.assertEqual(usl.disturbed(2, 50), "")

    def test_the_published_curves_have_a_fit(self):
        found = usl.fit(published.THREADS, published.rates("one userfaultfd"))
        self.assertGreater(found.kappa_range[0], 0)


class NameTest(unittest.TestCase):
    def test_names(self):
        name = Name("touch", "engine", "random", "write", 64, "mixed", 256)
        self.assertEqual(parse_name(name.text()), name)
        self.assertEqual(parse_name(name.text() + "/iterations:1/manual_time"), name)
        vcpus = Name("kvm", "single", "random", "write", 1, "disjoint", 4)
        self.assertEqual(vcpus.text(), "kvm/single/random/write/density:1/vcpus:4")
        self.assertEqual(parse_name(vcpus.text()), vcpus)
        for other in ("restore/file/late/read/density:1/threads:16", name.text() + "/window:16",
                      "touch/engine/random/write/density:64/share:mixed/folio:4K/threads:256"):
            self.assertIsNone(parse_name(other))

    def test_designs_take_turns(self):
        designs = ["kernel", "single", "engine"]
        names = [Name("touch", d, "random", "write", 1, "mixed", n) for d in designs for n in (1, 4)]
        order = run.plan(names, 3, designs)
        self.assertEqual(len(set(order)), 18)
        firsts = [[n.design for n, r in order if r == repetition][0] for repetition in range(3)]
        self.assertEqual(sorted(firsts), sorted(designs))
        self.assertEqual([n.design for n, _ in order[:3]], designs)


class CommandTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.out = os.path.join(self.folder.name, "out")
        self.log = os.path.join(self.folder.name, "log")

    def command(self, *arguments):
        return [CURVE, "--no-setup", "--no-pictures", "--program", MADE_UP, "--out", self.out, "--repetitions", "1",
                "--threads", "1,2,4,8,16", "--designs", "kernel,engine", *arguments]

    def environment(self, **more):
        return {**os.environ, "MADE_UP_LOG": self.log, **more}

    def curve(self, *arguments, **more):
        return subprocess.run(self.command(*arguments), env=self.environment(**more), timeout=LIMIT_S,
                              capture_output=True, text=True, check=False)

    def nr_run(self) -> int:
        try:
            with open(self.log, encoding="utf-8") as log:
                return len(log.readlines())
        except FileNotFoundError:
            return 0

    def nr_kept(self) -> int:
        try:
            return sum(f.endswith(".json") for f in os.listdir(os.path.join(self.out, "points")))
        except FileNotFoundError:
            return 0

    def stop_after_points(self, nr: int, how: int) -> int:
        """Start it, send @how when @nr points are kept; returns its exit status."""
        with subprocess.Popen(self.command(), env=self.environment(MADE_UP_DELAY="0.1"),
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as child:
            end = time.monotonic() + LIMIT_S
            while self.nr_kept() < nr:
                self.assertIsNone(child.poll(), "it ended before it was stopped")
                self.assertLess(time.monotonic(), end, f"no {nr} points within {LIMIT_S} s")
                time.sleep(0.01)
            child.send_signal(how)
            _, said = child.communicate(timeout=LIMIT_S)
            if how != signal.SIGKILL:
                self.assertIn("the same command goes on", said)
            return child.returncode

    def test_goes_on_after_interrupt_and_kill(self):
        self.assertEqual(self.stop_after_points(3, signal.SIGINT), 130)
        kept = self.nr_kept()
        self.assertGreaterEqual(kept, 3)
        self.assertEqual(self.stop_after_points(kept + 3, signal.SIGKILL), -signal.SIGKILL)
        kept = self.nr_kept()
        before = self.nr_run()
        done = self.curve()
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(f"{kept} of 20 points are in", done.stderr)
        self.assertEqual(self.nr_run() - before, 20 - kept)
        with open(os.path.join(self.out, "curve.json"), encoding="utf-8") as file:
            self.assertEqual(len(json.load(file)["points"]), 20)
        # A point that is cut short on disk is measured again, and nothing else is.
        broken = os.path.join(self.out, "points", sorted(os.listdir(os.path.join(self.out, "points")))[0])
        os.truncate(broken, 40)
        before = self.nr_run()
        self.assertEqual(self.curve().returncode, 0)
        self.assertEqual(self.nr_run() - before, 1)

    def test_refuses_other_conditions(self):
        few = ("--threads", "1", "--density", "1")
        self.assertEqual(self.curve(*few).returncode, 0)
        refused = self.curve(*few, "--memory", "2G")
        self.assertEqual(refused.returncode, 2)
        self.assertIn("memory was 1G, is 2G", refused.stderr)
        self.assertIn("--fresh", refused.stderr)
        before = self.nr_run()
        again = self.curve(*few, "--memory", "2G", "--fresh")
        self.assertEqual(again.returncode, 0, again.stderr)
        self.assertEqual(self.nr_run() - before, 2)
        self.assertTrue([f for f in os.listdir(self.folder.name) if f.startswith("out.until-")])

    def test_failed_point_is_no_figure(self):
        done = self.curve(MADE_UP_FAIL="engine/random/write/density:64/share:mixed/threads:4/")
        self.assertEqual(done.returncode, 1)
        self.assertIn("3 pages are wrong", done.stderr)
        with open(os.path.join(self.out, "curve.json"), encoding="utf-8") as file:
            data = json.load(file)
        self.assertEqual(len(data["points"]), 19)
        self.assertEqual(data["failures"][0]["error"], "3 pages are wrong")
        before = self.nr_run()
        self.assertEqual(self.curve().returncode, 0)
        self.assertEqual(self.nr_run() - before, 1)

    def test_all_files_from_recorded_data(self):
        recorded = os.path.join(self.folder.name, "recorded.json")
        subprocess.run([MADE_UP, f"--benchmark_out={recorded}", "--benchmark_filter=touch"], check=True,
                       timeout=LIMIT_S)
        done = subprocess.run([CURVE, "--no-setup", "--from", recorded, "--out", self.out],
                              timeout=LIMIT_S, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        begins = {".png": b"\x89PNG", ".svg": b"<?xml"}
        for picture in ("rate", "cpu", "latency"):
            for suffix, magic in begins.items():
                with open(os.path.join(self.out, picture + suffix), "rb") as file:
                    self.assertTrue(file.read(20000).startswith(magic), picture + suffix)
        with open(os.path.join(self.out, "curve.csv"), encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        self.assertEqual(tuple(rows[0]), write.CSV_COLUMNS)
        self.assertEqual(len(rows), 8 * 2 * 9)
        released = {row["design"] for row in rows if float(row["released_bytes"])}
        self.assertEqual(released, {"engine", "engine_released"})
        with open(os.path.join(self.out, "curve.json"), encoding="utf-8") as file:
            data = json.load(file)
        self.assertEqual(set(data), {"format", "conditions", "points", "failures", "fits"})
        fits = {(f["design"], f["density"]): f for f in data["fits"]}
        self.assertAlmostEqual(fits["single", 1]["sigma"], 0.6, places=4)
        self.assertAlmostEqual(fits["engine", 64]["kappa"], 0, places=6)
        # Drawn again from what it wrote: the same fits.
        again = subprocess.run([CURVE, "--no-setup", "--from", os.path.join(self.out, "curve.json"), "--out",
                                self.out + "2"], timeout=LIMIT_S, capture_output=True, text=True, check=False)
        self.assertEqual(again.returncode, 0, again.stderr)
        self.assertEqual(again.stdout, done.stdout)

    def test_says_what_a_file_is_not(self):
        wrong = os.path.join(self.folder.name, "wrong.json")
        with open(wrong, "w", encoding="utf-8") as file:
            file.write('{"format": "something else"}')
        done = subprocess.run([CURVE, "--no-setup", "--from", wrong], timeout=LIMIT_S, capture_output=True,
                              text=True, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("neither curve.json", done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
