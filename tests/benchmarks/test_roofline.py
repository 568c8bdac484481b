# SPDX-License-Identifier: MIT
"""The limits beside freewire's times: what a plan computes and reads, the caches, and the machine's peaks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

import freewire as fw
from benchmarks.harness import peaks as probe
from benchmarks.harness.peaks import Cache, Level, Peaks, PeaksError, caches, measure_peaks
from benchmarks.harness.roofline import Roofline, Work, count, roofline

#: 1,000 edges, a quarter of which are in dense blocks.
PLAN = SimpleNamespace(num_slots=100, scratch_rows=60, num_live_edges=1000, dense_share=0.25, flops=2080)
PEAKS = Peaks(
    threads=2,
    flops=1e9,
    levels=(
        Level("L1", share=4000, measured_on=2000, random=8e9, in_order=16e9),
        Level("L2", share=20_000, measured_on=10_000, random=2e9, in_order=4e9),
        Level("memory", share=None, measured_on=90_000, random=1e9, in_order=2e9),
    ),
)


class TestCount:
    def test_plan_without_dense_blocks(self) -> None:
        plan = fw.plan.make_plan(fw.Graph.from_edges([0, 1, 0, 2, 2, 3], [2, 2, 3, 3, 4, 4], inputs=[0, 1]))
        assert (plan.dense_share, plan.num_slots, plan.scratch_rows) == (0, 5, 3)
        # 6 edges and 3 computed nodes; tiles of 16 and 4 samples
        forward = Work(flops=20 * (2 * 6 + 3), rows=4 * 20 * 6, lists=2 * 8 * 6, tape=4 * 16 * 3, held=192 + 8 * 6)
        assert count(plan, 20, "forward", 16) == forward
        step = Work(flops=3 * 20 * 15, rows=2 * 4 * 20 * 6, lists=2 * 20 * 6, tape=4 * 16 * 5, held=320 + 20 * 6)
        assert count(plan, 20, "step", 16) == step

    def test_edges_in_dense_blocks_cost_flops_and_weights(self) -> None:
        assert count(PLAN, 32, "forward", 16) == Work(
            flops=32 * 2080,
            rows=4 * 32 * 750,
            lists=2 * 8 * 750 + 4 * 250,
            tape=4 * 16 * 60,
            held=4 * 16 * 60 + 8 * 750 + 4 * 250,
        )
        assert count(PLAN, 32, "step", 64) == Work(
            flops=3 * 32 * 2080,
            rows=2 * 4 * 32 * 750,
            lists=20 * 750 + 12 * 250,
            tape=4 * 32 * 100,
            held=4 * 32 * 100 + 20 * 750 + 12 * 250,
        )


class TestRoofline:
    def test_reads_decide_at_the_best_tile_width(self) -> None:
        # Tapes of 64, 32 and 16 samples have 15,360, 7,680 and 3,840 bytes: only the last fits L1.
        seconds = 4 * 64 * 750 / 8e9 + (4 * 8 * 750 + 1000) / 4e9
        found = roofline(PLAN, 64, "forward", replace(PEAKS, flops=1e12))
        assert found == Roofline(64 * 2080, 4 * 64 * 750 + 4 * 8 * 750 + 1000, 16, "L1", "bytes", seconds)

    def test_arithmetic_decides(self) -> None:
        found = roofline(PLAN, 64, "forward", PEAKS)
        assert (found.bound, found.seconds, found.tile, found.level) == ("FLOPs", 64 * 2080 / 1e9, 64, "L2")

    def test_small_batch_is_one_narrow_tile(self) -> None:
        found = roofline(PLAN, 1, "step", replace(PEAKS, flops=1e12))
        assert (found.tile, found.level, found.bytes) == (1, "L1", 2 * 4 * 750 + 20 * 750 + 12 * 250)
        assert found.seconds == 2 * 4 * 750 / 8e9 + (20 * 750 + 12 * 250) / 4e9

    def test_tape_beyond_the_caches_is_in_memory(self) -> None:
        assert PEAKS.level(20_000).name == "L2"
        assert PEAKS.level(20_001).name == "memory"


class TestCaches:
    @staticmethod
    def system(folder: Path, cpus: int) -> Path:
        """Describe processors with caches of their own and, for each two of them, a third level."""
        for cpu in range(cpus):
            pair = f"{cpu // 2 * 2}-{cpu // 2 * 2 + 1}"
            kinds = [("Data", "1", "48K", f"{cpu}"), ("Instruction", "1", "32K", f"{cpu}")]
            kinds += [("Unified", "2", "2048K", f"{cpu}"), ("Unified", "3", "16M", pair)]
            for index, values in enumerate(kinds):
                cache = folder / f"cpu{cpu}" / "cache" / f"index{index}"
                cache.mkdir(parents=True)
                for name, value in zip(("type", "level", "size", "shared_cpu_list"), values, strict=True):
                    (cache / name).write_text(value + "\n")
        return folder

    @pytest.mark.parametrize(("threads", "third"), [(1, 16), (2, 16), (3, 8), (4, 8), (8, 4)])
    def test_threads_divide_shared_caches(
        self, threads: int, third: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 1, 2, 3}, raising=False)
        own = -(-threads // 4)
        expected = [Cache(1, (48 << 10) // own), Cache(2, (2 << 20) // own), Cache(3, third << 20)]
        assert caches(threads, self.system(tmp_path, 4)) == expected

    def test_sizes_from_sysconf(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        sizes = {"SC_LEVEL1_DCACHE_SIZE": 32768, "SC_LEVEL2_CACHE_SIZE": 1 << 20, "SC_LEVEL3_CACHE_SIZE": 8 << 20}
        monkeypatch.setattr("os.sysconf_names", sizes)
        monkeypatch.setattr("os.sysconf", sizes.__getitem__)
        assert caches(4, tmp_path) == [Cache(1, 32768), Cache(2, 1 << 20), Cache(3, 2 << 20)]

    def test_system_that_reports_none(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("os.sysconf_names", {})
        with pytest.raises(PeaksError, match=r"caches: expected their sizes in .* or from sysconf, got none\."):
            caches(2, tmp_path)


class TestPeaks:
    def test_every_level_is_measured(self) -> None:
        found = measure_peaks(2, rounds=1, seconds=1e-5)
        assert [level.name for level in found.levels] == [*(f"L{c.level}" for c in caches(2)), "memory"]
        assert [level.share for level in found.levels] == [*(c.share for c in caches(2)), None]
        assert found.flops > 1e8
        for level in found.levels:
            assert min(level.random, level.in_order) > 1e7
            assert level.share is None or level.measured_on < level.share
        assert found.levels[-1].measured_on > found.levels[-2].share
        assert str(found).startswith("peaks of 2 thread(s): ")

    def test_best_of_two(self) -> None:
        faster = replace(PEAKS.levels[1], random=3e9, in_order=1e9)
        other = replace(PEAKS, flops=5e8, levels=(PEAKS.levels[0], faster, PEAKS.levels[2]))
        expected = replace(PEAKS, levels=(PEAKS.levels[0], replace(faster, in_order=4e9), PEAKS.levels[2]))
        assert PEAKS.best(other) == other.best(PEAKS) == expected
        assert PEAKS.best(None) == PEAKS

    @pytest.mark.parametrize("compiler", ["false", "no-such-compiler"])
    def test_missing_compiler(self, compiler: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CC", compiler)
        monkeypatch.setattr(probe, "_library", probe._library.__wrapped__)
        with pytest.raises(PeaksError, match=r"CC: expected a C compiler that builds peaks\.c, got: "):
            measure_peaks(1)
