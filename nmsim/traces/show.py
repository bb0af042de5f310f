"""What a trace shows of itself in a notebook: the run, its evaluations, its phases."""

from __future__ import annotations

from nmsim.html import block, gapped, some, table
from nmsim.traces.schema import Trace
from nmsim.traces.summary import phases, stages
from nmsim.words import percent

FACTS = ("model", "data", "recipe", "pattern", "batch", "optimizer", "dtype", "seed")


def html(trace: Trace) -> str:
    """What was trained and how, the accuracy over the steps, and the operations that were executed and checked."""
    evaluations = trace.evaluations
    facts = [(key, trace.info[key]) for key in FACTS if key in trace.info]
    shown = some(len(evaluations["step"]))
    rows = [
        (
            f"{evaluations['step'][i]:,}", f"{evaluations['train_loss'][i]:.4g}", f"{evaluations['test_loss'][i]:.4g}",
            percent(float(evaluations["test_accuracy"][i])),
        )
        for i in shown
    ]  # fmt: skip
    done = [(row["stage"], f"{row['executed']:,}", f"{row['checks']:,}") for row in stages(trace)]
    ran = [(row["phase"], f"{row['first_step']:,}", f"{row['steps']:,}") for row in phases(trace)]
    kept = some(len(ran))
    return block(
        f"{trace.executed.name}: {trace.steps:,} training steps", f"digest {trace.digest[:16]}",
        table(facts, caption="Run"),
        table(gapped(rows, shown), ("step", "train loss", "test loss", "accuracy"), "rrrr"),
        table(done, ("stage", "executed", "checks"), "lrr"),
        table(gapped([ran[i] for i in kept], kept), ("phase", "from step", "steps"), "lrr"),
    )  # fmt: skip
