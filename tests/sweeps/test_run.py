"""Execution: chunks, executors, shards, interruption, and what goes wrong on the way."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import pandas as pd
import pytest

import nmsim
from nmsim.errors import NmsimError, UnsupportedError
from nmsim.sweeps import rows as row_files
from nmsim.sweeps.run import Shard, merge

SPACE = {
    "name": "small",
    "fixed": {"arch": "sat_vcu1525", "n": 64, "k": 256},
    "axes": {"pattern": ["2:4", "dense", "bad"], "m": {"from": 1, "to": 400, "steps": 20}},
    "baseline": {"pattern": "dense", "m": 400},
    "metrics": ["latency_s", "energy_j", "macs_executed"],
}


@pytest.fixture(scope="module")
def whole():
    return nmsim.sweep(SPACE)


def same(found, expected):
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


def test_rows_have_inputs_figures_and_where_they_come_from(whole):
    assert list(whole.columns) == [
        "point", "arch", "n", "k", "pattern", "m", "latency_s", "energy_j", "macs_executed", "speedup",
        "energy_ratio", "edp_ratio", "error", "digest", "sweep", "nmsim",
    ]  # fmt: skip
    assert len(whole) == 60
    assert whole["digest"].is_unique
    assert (whole["error"] != "").sum() == 20
    base = nmsim.simulate("sat_vcu1525", nmsim.gemm(400, 64, 256))
    first = nmsim.simulate("sat_vcu1525", nmsim.gemm(1, 64, 256, "2:4"))
    assert whole["latency_s"][0] == first.latency_s
    assert whole["speedup"][0] == base.latency_s / first.latency_s
    assert whole["edp_ratio"][0] == (base.latency_s / first.latency_s) * (base.energy_j / first.energy_j)


def test_the_baseline_is_its_own_equal(whole):
    at = whole[(whole["pattern"] == "dense") & (whole["m"] == 400)]
    assert at[["speedup", "energy_ratio", "edp_ratio"]].to_numpy().tolist() == [[1.0, 1.0, 1.0]]


def test_any_executor_and_any_chunk_gives_the_same_rows(whole):
    with ThreadPoolExecutor(2) as pool:
        same(nmsim.sweep(SPACE, pool, chunk=7), whole)


def test_shards_join_to_the_whole(whole):
    shards = [nmsim.sweep(SPACE, chunk=7, shard=Shard(i, 3)) for i in (1, 2, 3)]
    same(merge(shards[::-1], ["c", "b", "a"]), whole)
    with pytest.raises(UnsupportedError, match="shards 2 of 3 are missing"):
        merge([shards[0], shards[2]], ["a", "c"])
    with pytest.raises(UnsupportedError, match="twice"):
        merge([*shards, shards[1]], ["a", "b", "c", "d"])
    other = nmsim.sweep({**SPACE, "metrics": ["latency_s"]})
    with pytest.raises(UnsupportedError, match="y is not of the same sweep as x"):
        merge([whole, other], ["x", "y"])


class DyingExecutor(Executor):
    """Runs the first `alive` tasks, then is broken as by a killed process."""

    def __init__(self, alive):
        self.alive = alive

    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        if self.alive:
            self.alive -= 1
            future.set_result(fn(*args, **kwargs))
        else:
            future.set_exception(BrokenProcessPool("a child process terminated abruptly"))
        return future


def test_finished_chunks_survive_a_dead_worker_and_are_not_run_again(whole, tmp_path):
    with pytest.raises(NmsimError, match="a worker process died"):
        nmsim.sweep(SPACE, DyingExecutor(3), keep=tmp_path, chunk=10)
    kept = sorted(tmp_path.glob("*.npz"))
    assert 1 <= len(kept) <= 3
    left = DyingExecutor(6 - len(kept))
    same(nmsim.sweep(SPACE, left, keep=tmp_path, chunk=10), whole)
    assert left.alive == 0


def test_a_half_written_chunk_is_run_again(whole, tmp_path):
    nmsim.sweep(SPACE, keep=tmp_path, chunk=10)
    for number, part in enumerate(sorted(tmp_path.glob("*.npz"))[:2]):
        part.write_bytes(part.read_bytes()[: 100 * number])
    left = DyingExecutor(2)
    same(nmsim.sweep(SPACE, left, keep=tmp_path, chunk=10), whole)
    assert left.alive == 0


def test_a_full_disk_is_told_and_what_was_written_is_kept(whole, tmp_path, monkeypatch):
    write, count = row_files.atomic_write, []

    def full(path, data):
        count.append(path)
        if len(count) == 4:  # the trial, two chunks, then nothing more
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(path, data)

    monkeypatch.setattr(row_files, "atomic_write", full)
    with pytest.raises(NmsimError, match=r"No space left on device; 2 finished chunks are kept .* goes on from there"):
        nmsim.sweep(SPACE, keep=tmp_path, chunk=10)
    monkeypatch.undo()
    same(nmsim.sweep(SPACE, keep=tmp_path, chunk=10), whole)


def test_a_change_of_the_space_takes_nothing_from_the_cache(tmp_path):
    nmsim.sweep(SPACE, keep=tmp_path)
    nmsim.sweep({**SPACE, "metrics": ["latency_s"]}, keep=tmp_path)
    assert len(list(tmp_path.glob("*.npz"))) == 2


def test_constraints_that_exclude_everything_say_which_exclude_how_much():
    where = [{"field": "m", "at_most": 100}, {"field": "m", "at_least": 1000}]
    with pytest.raises(UnsupportedError, match=r"0 of 60 points .*where\[1\] alone leaves 0"):
        nmsim.sweep({**SPACE, "where": where})


def test_too_many_points_are_refused_before_anything_runs():
    with pytest.raises(UnsupportedError, match="60 points, more than 59"):
        nmsim.sweep(SPACE, DyingExecutor(0), limit=59)


@pytest.mark.parametrize("suffix", [".npz", ".csv", ".parquet"])
def test_rows_are_read_back_as_written(whole, tmp_path, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    row_files.save(whole, tmp_path / f"rows{suffix}")
    found = row_files.load(tmp_path / f"rows{suffix}")
    for name in whole.columns:
        for read, written in zip(found[name].tolist(), whole[name].tolist(), strict=True):
            assert read == written or (read != read and written != written)


@pytest.mark.parametrize("suffix", [".npz", ".csv"])
def test_half_a_file_of_rows_is_called_that(whole, tmp_path, suffix):
    file = tmp_path / f"rows{suffix}"
    row_files.save(whole, file)
    file.write_bytes(file.read_bytes()[:60])
    with pytest.raises(NmsimError, match=r"damaged or half written|is missing"):
        row_files.load(file)


SPACE_FILE = """
kind: space
fixed: {arch: sat_vcu1525, workload: resnet18_64_s3, recipe: bdwp, pattern: "2:4"}
axes:
  batch: [1, 2, 3, 4, 5, 6]
  arch.array.rows: [8, 16, 32]
metrics: [latency_s, energy_j]
"""


def test_a_sweep_killed_at_any_moment_resumes_to_the_same_rows(tmp_path):
    """SIGKILL after the first chunk is there, then once more, then to the end."""
    (tmp_path / "s.yaml").write_text(SPACE_FILE)
    command = [sys.executable, "-m", "nmsim", "sweep", "s.yaml", "--chunk", "3", "-o", "rows.npz"]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    parts = tmp_path / "rows.npz.parts"
    for wanted in (1, 3):
        running = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL)
        while running.poll() is None and len(list(parts.glob("*.npz"))) < wanted:
            time.sleep(0.005)
        running.send_signal(signal.SIGKILL)
        running.wait()
        assert len(list(parts.glob("*.npz"))) >= wanted
        assert not (tmp_path / "rows.npz").exists()
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, stderr=subprocess.DEVNULL)
    same(row_files.load(tmp_path / "rows.npz"), nmsim.sweep(tmp_path / "s.yaml"))
    assert not parts.exists()
