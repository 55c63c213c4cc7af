#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""bench/blocks: what it asks faultlane-bench for, medians, bounds, what is left out, what has failed.

usage: blocks_test.py [FAULTLANE-BENCH]
"""
import importlib.machinery
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.realpath(__file__))
BLOCKS = os.path.join(os.path.dirname(os.path.dirname(HERE)), "bench", "blocks")
BENCH = sys.argv.pop(1) if len(sys.argv) > 1 else None
LIMIT_S = 60

sys.dont_write_bytecode = True
loader = importlib.machinery.SourceFileLoader("blocks", BLOCKS)
spec = importlib.util.spec_from_loader("blocks", loader)
blocks = importlib.util.module_from_spec(spec)
sys.modules["blocks"] = blocks
loader.exec_module(blocks)

# Stands in for faultlane-bench: runs what the filter names, three times each.
MADE_UP = """#!/usr/bin/python3
import json, os, re, sys
names = re.search(r"filter=\\^\\((.*)\\)\\$$", [a for a in sys.argv if "filter" in a][0]).group(1).split("|")
runs = []
for name in names:
    for i in range(3):
        run = {"run_name": name, "run_type": "iteration", "noisy": 0.0}
        if os.environ.get("FAILS", "-") in name:
            run.update(error_occurred=True, error_message=os.environ["REASON"])
        else:
            slow = 100 if "engine_small" in name else 1 if "/engine" in name else 10
            run["large_folio_bytes"] = float(os.environ.get("LARGE", "1"))
            run.update(dict.fromkeys(%s, slow * (0.01, 0.02, 50.0)[i]))
        runs.append(run)
    runs.append({"run_name": name, "run_type": "aggregate", "cpu_us_per_page": 1e9})
print(json.dumps({"benchmarks": runs}))
"""


class BlocksTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.program = os.path.join(folder.name, "made-up")
        counters = sorted({row.counter for _, rows in blocks.SECTIONS.values() for row in rows})
        with open(self.program, "w", encoding="utf-8") as file:
            file.write(MADE_UP % json.dumps(counters))
        os.chmod(self.program, 0o755)

    def run_it(self, *arguments, **environment):
        return subprocess.run([BLOCKS, "--program", self.program, "--threads", "3", *arguments],
                              env={**os.environ, **environment}, timeout=LIMIT_S, capture_output=True, text=True,
                              check=False)

    def test_medians_are_compared(self):
        out = os.path.join(self.folder, "out.json")
        done = self.run_it("--sections", "filled", "demand", "--json", out)
        self.assertEqual(done.returncode, 0, done.stderr)
        lines = done.stdout.splitlines()
        # The median of 0.01, 0.02 and 50, against 0.15; ten times as much for kernel_huge.
        self.assertIn("  engine, write, every page: CPU, µs a page: 0.02, at most 0.15: met", lines)
        self.assertIn("  engine, read, one page in 8: CPU against kernel_huge: 0.02 (0.10 x), at most 0.23: met", lines)
        self.assertIn("  slow_1ms: p99 of faulted touches against engine_small: 0.02 (0.01 x), at most 2.4: met", lines)
        with open(out, encoding="utf-8") as file:
            self.assertEqual(json.load(file)["touch/engine/random/write/density:1/share:disjoint/threads:3"]
                             ["cpu_us_per_page"], 0.02)

    def test_a_bound_that_is_not_met(self):
        done = self.run_it("--sections", "filling")
        self.assertEqual(done.returncode, 0, done.stderr)
        # The made-up rate is a hundredth of engine_small's.
        self.assertRegex(done.stdout, r"file: pages a second, against engine_small: .* at least 6: NOT MET")
        self.assertRegex(done.stdout, r"memory: CPU in all, µs a page: 0.02, at most 1.1: met")

    def test_left_out_is_no_failure(self):
        done = self.run_it("--sections", "filled", FAILS="kernel_huge", REASON="left out: no large folios")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout.count(": left out: no large folios"), 12)
        done = self.run_it("--sections", "filled", FAILS="kernel_huge", REASON="3 pages are wrong")
        self.assertEqual(done.returncode, 1)
        self.assertIn("3 pages are wrong", done.stdout)

    def test_bounds_of_large_folios_need_some(self):
        done = self.run_it("--sections", "filling", LARGE="0")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout.count(": left out: the image is in small folios"), 8)
        self.assertEqual(done.stdout.count("in small folios, CPU against engine_small: "), 2)

    def test_bad_input(self):
        for bad in (["--sections", "other"], ["--threads", "0"], ["--repetitions", "x"]):
            self.assertEqual(self.run_it(*bad).returncode, 2, bad)
        self.assertEqual(self.run_it("--program", os.path.join(self.folder, "none")).returncode, 2)

    @unittest.skipUnless(BENCH, "no faultlane-bench was given")
    def test_the_program_has_all_that_is_asked_for(self):
        listed = subprocess.run([BENCH, "--threads=3", "--folio=4K", "--benchmark_list_tests=true"],
                                stdout=subprocess.PIPE, text=True, timeout=LIMIT_S, check=True).stdout.split()
        for section, (_, rows) in blocks.SECTIONS.items():
            for name in blocks.names_of(rows):
                self.assertIn(name.format(n=3), listed, section)
                self.assertTrue(re.fullmatch(f"^({name.format(n=3)})$", name.format(n=3)))


if __name__ == "__main__":
    unittest.main(verbosity=2)
