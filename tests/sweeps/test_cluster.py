"""A dask cluster, where dask is installed: a real scheduler, real workers, one of them killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

import nmsim
from nmsim.errors import UnsupportedError
from nmsim.sweeps.cluster import TIMEOUT_SECONDS, dask_executor

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

SPACE = {
    "fixed": {"arch": "sat_vcu1525", "recipe": "bdwp", "pattern": "2:4", "workload": "resnet18_64_s3"},
    "axes": {"batch": {"from": 1, "to": 24, "steps": 24}, "arch.array.rows": [8, 16, 32]},
}


@pytest.fixture
def cluster(tmp_path):
    """The address of a scheduler with two workers, and the processes of the workers."""
    pytest.importorskip("distributed")
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    file = tmp_path / "scheduler.json"

    def start(*words):
        command = [sys.executable, "-m", "dask", *words, "--scheduler-file", str(file)]
        return subprocess.Popen(command, env=environment, cwd=tmp_path, stderr=subprocess.DEVNULL)

    scheduler = start("scheduler", "--port", "0", "--no-dashboard")
    workers = [start("worker", "--nthreads", "1", "--no-nanny", "--no-dashboard") for _ in range(2)]
    try:
        yield file, workers
    finally:
        for process in (*workers, scheduler):
            process.kill()
            process.wait()


def address_of(file: Path) -> str:
    import json

    for _ in range(600):
        if file.exists() and file.read_text().strip():
            return json.loads(file.read_text())["address"]
        time.sleep(0.05)
    raise AssertionError("the scheduler did not start")


def test_a_sweep_survives_the_death_of_one_of_two_workers(cluster, tmp_path):
    from distributed import Client

    file, workers = cluster
    address = address_of(file)
    with Client(address) as client:
        client.wait_for_workers(2, timeout=60)
    killed = False

    class Killing:
        """Passes tasks on; the first result is the sign to kill a worker that has others."""

        def __init__(self, pool):
            self.pool = pool

        def submit(self, fn, /, *args, **kwargs):
            future = self.pool.submit(fn, *args, **kwargs)
            future.add_done_callback(self.kill)
            return future

        def kill(self, future):
            nonlocal killed
            if not killed:
                killed = True
                workers[0].send_signal(signal.SIGKILL)

    with dask_executor(address) as pool:
        found = nmsim.sweep(SPACE, Killing(pool), chunk=3)
    assert killed
    assert workers[0].wait(10) == -signal.SIGKILL
    pd.testing.assert_frame_equal(found, nmsim.sweep(SPACE), check_exact=True)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "127.0.0.1:9"])
def test_a_scheduler_that_does_not_answer_is_named_at_once(address):
    pytest.importorskip("distributed")
    began = time.monotonic()
    with (
        pytest.raises(UnsupportedError, match=rf"no dask scheduler answers at {address}: Connection refused"),
        dask_executor(address),
    ):
        pass
    assert time.monotonic() - began < TIMEOUT_SECONDS / 2


def test_who_listens_but_is_no_scheduler_is_given_up(monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("nmsim.sweeps.cluster.TIMEOUT_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(UnsupportedError, match=f"no dask scheduler answers at {address}"), dask_executor(address):
            pass


@pytest.mark.parametrize("address", ["nonsense", "tcp://host", "tcp://host:many"])
def test_what_is_no_address_is_told_how_one_looks(address):
    with pytest.raises(UnsupportedError, match=r"is no address .* tcp://host:8786"), dask_executor(address):
        pass


def test_without_dask_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UnsupportedError, match=r"nmsim\[dask\]"), dask_executor("tcp://127.0.0.1:9"):
        pass
