#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""faultlane-bench, family kvm: what is listed, what a small run says, that wrong pages are found."""
import json
import os
import re
import subprocess
import sys
import unittest

BENCH = sys.argv.pop(1) if len(sys.argv) > 1 else "faultlane-bench"
LIMIT_S = 100
PAGES = 4096  # of 16 MiB
NAME = re.compile(r"kvm/(\w+)/(random|sequential)/(read|write)/density:(1|8|64|512)(?:/folio:(4K|2M))?/"
                  r"vcpus:(\d+)(?:/window:(\d+))?$")
DESIGNS = {"kernel", "kernel_populate", "single", "single_window", "per_vcpu", "engine", "engine_small", "engine_released",
           "engine_page"}


def bench(pattern: str, *options: str, spoil: bool = False):
    """Run what matches; returns the exit status and the runs by their names."""
    env = dict(os.environ, FAULTLANE_BENCH_MEMORY="16M")
    env.pop("FAULTLANE_BENCH_SPOIL", None)
    if spoil:
        env["FAULTLANE_BENCH_SPOIL"] = "1"
    done = subprocess.run(
        [BENCH, "--retries", "0", f"--benchmark_filter={pattern}", "--benchmark_format=json", *options],
        env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=LIMIT_S, check=False)
    if done.returncode not in (0, 1):
        raise AssertionError(f"exit status {done.returncode}: {done.stderr}")
    if not done.stdout.startswith("{"):
        raise AssertionError(f"no JSON: {done.stdout[:300]} {done.stderr[-300:]}")
    return done.returncode, {run["name"]: run for run in json.loads(done.stdout)["benchmarks"]}


class KvmTest(unittest.TestCase):
    def test_names_follow_the_grammar(self):
        listed = subprocess.run([BENCH, "--benchmark_list_tests=true", "--benchmark_filter=^kvm/"],
                                stdout=subprocess.PIPE, text=True, timeout=LIMIT_S, check=True).stdout.split()
        parts = [NAME.match(name) for name in listed]
        self.assertEqual([name for name, match in zip(listed, parts) if not match], [])
        designs = {match[1] for match in parts}
        self.assertLessEqual(DESIGNS | {"kernel_huge"}, designs)
        self.assertNotIn("engine_in_context", designs)
        self.assertLessEqual({1, 2, 4, 8, 16, 32, 64, 128, 256}, {int(match[6]) for match in parts})
        self.assertEqual(len(set(listed)), len(listed))

    def test_a_small_run_of_each_design(self):
        status, runs = bench("^kvm/[a-z_]+/[a-z]+/(read|write)/density:1/vcpus:3$", "--threads", "3")
        ran = {name: run for name, run in runs.items() if not run.get("error_occurred")}
        for name, run in runs.items():
            if name not in ran:  # a machine may have no huge pages
                self.assertIn("left out: ", run["error_message"], name)
        self.assertEqual(status, 0)
        self.assertLessEqual(DESIGNS, {NAME.match(name)[1] for name in ran})
        for name, run in ran.items():
            with self.subTest(name):
                self.check_figures(NAME.match(name)[1], run)

    def check_figures(self, design: str, run):
        self.assertEqual(run["pages"], PAGES)
        self.assertGreater(run["pages_per_second"], 0)
        self.assertGreater(run["cpu_us_per_page"], 0)
        quantiles = [run[f"touch_{q}_us"] for q in ("p50", "p99", "p999", "max")]
        self.assertGreater(quantiles[0], 0)
        self.assertEqual(quantiles[:3], sorted(quantiles[:3]))
        faults = run["faults_per_page"]
        if design in ("single", "engine_page", "per_vcpu"):
            self.assertGreaterEqual(faults, 1)
        elif design in ("engine_small", "single_window"):
            # Two for each block of 512, and a few that met in one.
            self.assertGreaterEqual(faults, 1 / 512)
            self.assertLess(faults, 1 / 16)
            self.assertGreater(run["fault_p99_us"], 0)
        if design in ("engine", "engine_released"):
            self.assertEqual(run["released_bytes"], PAGES * 4096)
            self.assertEqual(run["userfaultfds_at_end"], 0)
        elif design == "engine_small":
            self.assertEqual(run["released_bytes"], 0)
            self.assertGreater(run["userfaultfds_at_end"], 0)

    def test_a_fixed_window(self):
        status, runs = bench("^kvm/engine_small/random/write/density:1/vcpus:3/window:4$", "--threads", "3", "--window", "4")
        self.assertEqual(status, 0)
        (run,) = runs.values()
        self.assertGreaterEqual(run["faults_per_page"], 1 / 4)

    def test_wrong_pages_are_errors(self):
        status, runs = bench("^kvm/(kernel|engine)/random/(read|write)/density:1/vcpus:2$", "--threads", "2", spoil=True)
        self.assertEqual(status, 1)
        self.assertEqual(len(runs), 4)
        for name, run in runs.items():
            self.assertTrue(run.get("error_occurred"), name)
            # What was read, the vCPU has judged; what was written, we do.
            said = "1 pages are wrong: a vCPU" if "/read/" in name else f"1 of {PAGES} pages are wrong"
            self.assertIn(said, run["error_message"], name)


def reason_to_skip() -> str:
    _, runs = bench("^kvm/(kernel|single)/random/read/density:1/vcpus:1$", "--threads", "1")
    for run in runs.values():
        if run.get("error_occurred") and run["error_message"].startswith("left out: "):
            return run["error_message"][len("left out: "):]
    return ""


if __name__ == "__main__":
    reason = reason_to_skip()
    if reason:
        print(f"SKIP: {reason}")
        sys.exit(77)
    unittest.main(verbosity=2)
