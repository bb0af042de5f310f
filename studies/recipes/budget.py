"""What a training executes: multiply-accumulates by stage, with every operand dense and as patterns leave them."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from nmsim.sparsity.recipe import STAGES
from nmsim.train.config import TrainingFile
from nmsim.train.data.dataset import Dataset
from nmsim.train.data.load import load_data
from nmsim.train.tasks import network_for
from nmsim.train.update import rule_name
from nmsim.workloads.optable import AXES, Workload


@lru_cache(maxsize=16)
def _load(name: str, seed: int, options: tuple[tuple[str, int | float | str], ...]) -> Dataset:
    return load_data(name, seed=seed, **dict(options))


def data_of(config: TrainingFile) -> Dataset:
    """The dataset of a run, kept for the next one."""
    return _load(config.data.name, config.seed, tuple(config.data.options.items()))


def relative_macs(config: TrainingFile) -> float:
    """What the run will execute as a share of the same steps dense, by the plan and without training."""
    rng = np.random.default_rng(0)
    model = network_for(data_of(config), config.model.name, config.model.sizes, rng).plan(config.batch)
    options = {"steps": config.steps, "optimizer": rule_name(config)}
    found = macs(model.forward().training(config.described, config.pattern, **options))
    return sum(found[f"macs_{stage}"] for stage in STAGES) / found["macs_dense"]


def macs(work: Workload) -> dict[str, float]:
    """Multiply-accumulates of the training: dense, and by stage those that groups along k do not let a machine skip.

    Kept weights of a pattern without groups lie anywhere and are gathered, in BP as in FF. `macs_nonzero` leaves out
    every product with a zero, also where groups run along another axis.
    """
    dense = _per_op(work)
    left = dense * _shares(work, skippable=True)
    by_stage = {f"macs_{stage}": float(left[work.is_stage(stage)].sum()) for stage in STAGES}
    nonzero = float((dense * _shares(work, skippable=False)).sum())
    return {"macs_dense": float(work.macs_dense), **by_stage, "macs_nonzero": nonzero}


def reach(step: Workload, stages: set[str]) -> dict[str, float]:
    """Of a step with the final masks: the share of MACs pruned in the stages that prune, and what is left of FF."""
    dense, share = _per_op(step), _shares(step, skippable=True)
    inside, forward = step.is_stage(*stages), step.is_stage("FF")
    reached = dense[inside & (share < 1)].sum() / dense[inside].sum() if stages else 0.0
    left = (dense * share)[forward].sum() / dense[forward].sum()
    return {"pruned_share": float(reached), "forward_share": float(left)}


def _shares(work: Workload, skippable: bool) -> np.ndarray:
    """The share [ops] of each product that is left of its operands' patterns; `skippable`: groups along k alone."""
    share = np.ones(len(work))
    for letter in "ab":
        length = work.row_lengths(letter)
        for i in np.flatnonzero(work[f"{letter}_pattern"]):
            pattern, axis = work.patterns[work[f"{letter}_pattern"][i]], AXES[work[f"{letter}_axis"][i]]
            if axis and not pattern.is_dense and not (skippable and pattern.has_groups and axis != "k"):
                share[i] *= pattern.density_along(int(length[i]))
    return share


def _per_op(work: Workload) -> np.ndarray:
    """Multiply-accumulates [ops] of the products with dense operands, 0 for other ops."""
    sizes = [work[c].astype(float) for c in ("m", "n", "k", "count", "repeat")]
    return np.where(work.gemms, np.prod(sizes, axis=0), 0.0)
