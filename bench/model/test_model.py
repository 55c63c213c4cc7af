#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Tests the model against known results and against laws that hold for all queues."""
import os
import unittest

from designs import Design, default_shards, default_workers, design
from known import measured, off_by, published
from machine import Machine, bare, published_2023, sources
from result import run

QUICK = os.environ.get("FAULTLANE_TEST_SCALE") == "quick"
NAMES = ("kernel", "single", "single_window", "per_vcpu", "engine", "engine_page",
         "engine_in_context", "engine_in_context_page", "single_readers", "exit")


class Known(unittest.TestCase):
    def check(self, points):
        for p in points:
            with self.subTest(p.what, vcpus=p.vcpus):
                r, _ = run(p.machine, p.design, p.vcpus)
                off = off_by(p, r.rate_k, r.cpu_us)
                self.assertLessEqual(off, p.within,
                                     f"{r.rate_k:.0f} k/s, {r.cpu_us:.2f} us: {r.limit}")

    def test_published(self):
        self.check(p for p in published() if not QUICK or p.vcpus <= 64)

    @unittest.skipIf(QUICK, "FAULTLANE_TEST_SCALE is quick")
    def test_measured(self):
        self.check(measured())

    def test_excuses_are_few_and_small(self):
        excused = [p for p in published() + measured() if p.within > 2]
        self.assertTrue(all(p.why and p.within <= 2.6 for p in excused))
        self.assertEqual([p.why for p in published() + measured() if p.why and p.within <= 2], [])

    def test_the_published_wall_is_asked_for_without_excuse(self):
        wall = [p for p in published() if p.what == "one userfaultfd, 2023"]
        self.assertEqual([p.vcpus for p in wall], [1, 2, 4, 8, 16, 32, 64, 128, 256])
        self.assertEqual({(p.within, p.slack_k) for p in wall}, {(2, 0)})

    def test_one_machine_for_all_points_of_a_curve(self):
        for what in {p.what for p in published()}:
            self.assertEqual(len({p.machine for p in published() if p.what == what}), 1)


class Laws(unittest.TestCase):
    runs: list = []

    @classmethod
    def setUpClass(cls):
        for name in NAMES:
            for vcpus, mixed in ((1, False), (3, True), (40, False), (40, True)):
                d = design(name, 16, vcpus)
                # Whole blocks are not asked for: windows reach beyond what is touched.
                cls.runs.append((name, vcpus, run(bare(16), d, vcpus, pages_each=96, mixed=mixed)))

    def worlds(self):
        return self.runs

    def test_every_fault_ends_and_every_page_is_touched_once(self):
        for name, vcpus, (_, w) in self.worlds():
            with self.subTest(name, vcpus=vcpus):
                self.assertEqual(w.nr_faults, w.nr_ended)
                self.assertEqual(w.outstanding, 0)
                self.assertEqual(w.nr_touched, 96 * vcpus)
                self.assertTrue(all(t.done for t in w.vcpus))
                self.assertFalse(any(u.blocked or u.pending for u in w.uffds))
                self.assertTrue(all(lock.owner is None and not lock.queue for lock in w.sim.locks))
                self.assertEqual(w.nr_installed, sum(w.present))

    def test_little(self):
        """Little's law: number in flight = rate x time of each; both sides are counted separately."""
        for name, vcpus, (r, _) in self.worlds():
            with self.subTest(name, vcpus=vcpus):
                self.assertAlmostEqual(r.little, 1, places=6)

    def test_nothing_is_busy_for_longer_than_the_time_there_is(self):
        for name, vcpus, (r, w) in self.worlds():
            with self.subTest(name, vcpus=vcpus):
                # A line's last uses may reach beyond the end of the run.
                self.assertLessEqual(r.busy[0][0], 1.1)
                self.assertLessEqual(sum(t.cpu_ns for t in w.sim.threads),
                                     w.sim.now * 16 * 1.1)

    def test_the_seed_decides(self):
        d = design("engine", 64, 64)
        first, again = (run(bare(64), d, 64, pages_each=256)[0] for _ in range(2))
        self.assertEqual(first, again)


class Limits(unittest.TestCase):
    """Without contention, results can be computed by hand."""

    # A machine on which lines and waking cost nothing.
    m = Machine(cores=2, line_ns=0, atomic_ns=0, idle_wake_ns=0, waker_idle_ns=0, waker_busy_ns=0,
                switch_ns=0)

    def test_one_vcpu_is_the_sum_of_its_services(self):
        m = self.m
        guest = m.trap_ns + m.kvm_exit_ns + m.enqueue_ns + m.scan_ns  # one reader is passed
        serve = (m.poll_ns + m.syscall_ns + m.refile_ns +
                 m.syscall_ns + m.install_ns + m.page_ns + m.scan_ns)
        back = m.kvm_switch_ns + m.retry_ns + m.kvm_map_ns
        r, _ = run(m, design("single", 2, 1), 1, pages_each=50)
        self.assertAlmostEqual(r.wait_us * 1000, guest + serve + back, delta=1)
        self.assertAlmostEqual(r.rate_k, 1e6 / (guest + serve + back + m.touch_ns), delta=0.5)

    def test_one_vcpu_without_userfaultfd(self):
        m = self.m
        r, _ = run(m, design("kernel", 2, 1, kvm=False), 1, pages_each=50)
        self.assertAlmostEqual(r.wait_us * 1000, m.trap_ns + m.map_ns, delta=1)

    def test_cpu_is_the_sum_of_services_too(self):
        m = self.m
        r, _ = run(m, design("engine_in_context_page", 2, 1), 1, pages_each=50)
        self.assertAlmostEqual(r.cpu_us * 1000,
                               m.trap_ns + m.signal_ns + 3 * m.siglock_ns + m.engine_fault_ns +
                               m.syscall_ns + m.install_ns + m.page_ns + m.touch_ns, delta=1)

    def test_a_lock_bounds_the_rate(self):
        """siglock, three times a fault: no number of threads gets past its hold time."""
        m = Machine(cores=64, line_ns=0, atomic_ns=0, siglock_ns=500)
        r, _ = run(m, design("engine_in_context_page", 64, 64), 64, pages_each=100)
        self.assertLessEqual(r.rate_k, 1e6 / 1500 * 1.02)
        self.assertGreater(r.rate_k, 1e6 / 1500 * 0.9)
        self.assertIn("siglock", r.limit)

    def test_a_processor_bounds_the_rate(self):
        m = self.m.with_(cores=1)
        r, _ = run(m, design("kernel", 1, 8, kvm=False), 8, pages_each=100)
        self.assertAlmostEqual(r.rate_k, 1e6 / (m.trap_ns + m.map_ns + m.touch_ns), delta=2)

    def test_a_window_of_a_block_is_one_fault(self):
        d = Design("window", window_first=512, window_max=512, kvm=False)
        r, w = run(bare(4), d, 2, pages_each=1024)
        self.assertEqual(w.nr_installed, 2048)
        self.assertEqual(w.nr_ended, 4)

    def test_the_walk_over_blocked_threads_is_quadratic(self):
        """Twice the vCPUs on one userfaultfd: each wake costs twice, once scanning is all."""
        m = bare(512).with_(scan_ns=500)
        slow, fast = (run(m, design("single", 512, n), n)[0].rate_k for n in (256, 128))
        self.assertAlmostEqual(fast / slow, 2, delta=0.25)


class Defaults(unittest.TestCase):
    def test_as_the_engine(self):
        """numa/plan.c and fln_default_nr_shards(), whose unit tests have the same."""
        self.assertEqual([default_workers(c) for c in (2, 16, 64, 256, 512, 1024)],
                         [2, 2, 8, 32, 64, 64])
        self.assertEqual([default_shards(n, 2) for n in (1, 16, 64, 200, 512, 4096)],
                         [2, 2, 8, 32, 64, 256])

    def test_every_figure_has_a_source(self):
        for name, source in sources().items():
            self.assertRegex(source, r"^([MAC]: |read)", name)
        self.assertEqual([n for n, s in sources().items() if s.startswith("C")],
                         ["switch_writes"])
        self.assertEqual(published_2023().line_ns, bare(1).line_ns)


if __name__ == "__main__":
    unittest.main()
