"""Running the study: a small record for each run, so that what is there is not run again."""

from __future__ import annotations

import json
import math
import os
import signal
import time
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from nmsim.errors import NmsimError
from nmsim.files import atomic_write
from nmsim.traces.schema import Trace
from nmsim.train.loop import Trainer
from nmsim.train.update import rule_name
from studies.recipes.budget import data_of, macs, reach
from studies.recipes.points import Point, all_points, described

RECORDS = Path("out/studies/recipes")
RESULTS = Path(__file__).parent / "results.csv"
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NMSIM_THREADS")


def record_path(point: Point) -> Path:
    """Where the record of a run is."""
    return RECORDS / f"{point.key()}.json"


def saved_keys() -> set[str]:
    """The runs that results.csv has."""
    return set(pd.read_csv(RESULTS, usecols=["key"])["key"]) if RESULTS.exists() else set()


def run_all(workers: int = 2, hours: float = 2.0) -> int:
    """Run what has no record and no row in results.csv yet, each run on one thread; returns how many are left.

    After that many hours no run begins any more. Stopped by this or interrupted, it goes on there the next time.
    """
    saved, until = saved_keys(), time.monotonic() + 3600 * hours
    waiting = [point for point in all_points() if point.key() not in saved and not record_path(point).exists()]
    os.environ.update(dict.fromkeys(THREADS, "1"))  # read by the workers as they start
    with ProcessPoolExecutor(workers, get_context("spawn"), _leave_interrupts) as pool:
        runs = [pool.submit(run_one, point) for point in waiting]
        try:
            for done in tqdm(as_completed(runs), total=len(runs), unit="run", mininterval=5):
                if not done.cancelled():
                    done.result()
                if time.monotonic() > until:
                    until = math.inf
                    _cancel(runs)
        except BaseException:
            _cancel(runs)
            raise
    return sum(run.cancelled() for run in runs)


def _leave_interrupts() -> None:
    """Workers finish the run they are at; the parent cancels the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _cancel(runs: list[Future[None]]) -> None:
    for run in runs:
        run.cancel()


def run_one(point: Point) -> None:
    """Train and write the record; an error of the run is its record."""
    began = time.perf_counter()
    try:
        result = _trained(point)
    except NmsimError as error:
        result = {"error": f"{type(error).__name__}: {error}"}
    record = {**described(point), **result, "seconds": round(time.perf_counter() - began, 2)}
    atomic_write(record_path(point), json.dumps(record))


def _trained(point: Point) -> dict[str, Any]:
    config = point.config()
    trainer = Trainer(config, data_of(config))
    trainer.train()
    assert trainer.last_evaluation is not None
    trace = trainer.trace()
    _, train_loss, loss, accuracy = trainer.last_evaluation
    recipe = config.described
    final = trainer.model.forward().training(
        "static" if recipe.trains_dense else recipe, config.pattern, optimizer=rule_name(config)
    )
    return {
        "accuracy": accuracy, "loss": loss, "train_loss": train_loss,
        "first_sparse_step": trace.info["first_sparse_step"], "start": trace.info["start"],
        **macs(trace.workload()), **reach(final, {p.stage for p in recipe.prunes}), **_measured(trace),
    }  # fmt: skip


def _measured(trace: Trace) -> dict[str, list[float | None]]:
    """Means over layers at every measurement: churn of masks, variance of the gradient and of Adam's second moment."""
    table = trace.intervals
    once = table["stage"] == table["stage"].min(initial=0)
    steps = np.unique(table["step"])
    churn = [_mean(table["mask_churn"][table["step"] == s]) for s in steps]
    noise = {
        name: [_mean(table[name][once & (table["step"] == s)]) for s in steps]
        for name in ("gradient_variance", "second_moment_variance")
    }
    return {"measured_at": [int(s) for s in steps], "churn": churn, **noise}


def _mean(values: np.ndarray) -> float | None:
    """The mean of the finite values, None if there are none (JSON has no NaN)."""
    finite = values[np.isfinite(values)]
    mean = float(finite.mean()) if len(finite) else math.nan
    return None if math.isnan(mean) else mean
