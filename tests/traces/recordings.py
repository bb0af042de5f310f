"""Synthetic runs: the planner's rows fed to a recorder, with operands that obey their patterns."""

from __future__ import annotations

import numpy as np

from nmsim.sparsity.mask import magnitude_mask
from nmsim.specfile import read_text, validate
from nmsim.traces.recorder import Recorder
from nmsim.traces.rows import AXES
from nmsim.traces.schema import Trace
from nmsim.workloads.model import Model
from nmsim.workloads.modelfile import ModelFile
from nmsim.workloads.optable import COLUMNS, Workload

NET = """
kind: workload
name: net
source: test
layers:
  - {type: conv, name: stem, in: 8, out: 16, kernel: 3, padding: 1, stride: 2, input: 6, then: [relu]}
  - {type: conv, name: down, in: 16, out: 16, kernel: 1, stride: 2, input: 3}
  - {type: conv, name: mix, in: 16, out: 16, kernel: 1, groups: 2, input: 2}
  - {type: avgpool, name: pool, channels: 16, input: 2, kernel: global}
  - {type: linear, name: head, in: 16, out: 8, tokens: sample}
"""
MLP = """
kind: workload
name: net
source: test
layers:
  - {type: linear, name: a, in: 16, out: 32, tokens: sample, then: [relu]}
  - {type: linear, name: b, in: 32, out: 16, tokens: sample, bias: false}
"""
INFO = {
    "model": "net", "recipe": "bdwp", "pattern": "2:4", "seed": 1, "batch": 4, "dtype": "fp16",
    "optimizer": "sgd_momentum", "config": {"steps": 5, "layers": [1, 2]},
}  # fmt: skip


def net(text: str = MLP, batch: int = 4) -> Workload:
    return Model.build(validate(ModelFile, read_text(text)), batch=batch).forward()


def operand(row: dict, letter: str, rng: np.random.Generator) -> np.ndarray | None:
    """A random operand in the shape of the product, pruned as the row claims; None where it claims nothing."""
    pattern, axis = row[f"{letter}_pattern"], row[f"{letter}_axis"]
    if row["stage"] == "PRUNE" or pattern.is_dense:
        return None
    values = rng.standard_normal((row["count"], *(row[a] for a in AXES[letter])))
    return values * magnitude_mask(values, pattern, AXES[letter][axis])


def rows_of(work: Workload) -> list[tuple[dict, int, int]]:
    """The values of each op as the recorder takes them, its repeat and its phase."""
    coded = {c: work.names(c) for c in ("layer", "stage", "kind", "note", *(c for c in COLUMNS if _named(c)))}
    found = []
    for i in range(len(work)):
        row = {c: coded[c][i] if c in coded else work[c][i].item() for c in COLUMNS}
        row |= {f"{x}_pattern": work.patterns[work[f"{x}_pattern"][i]] for x in "ab"}
        found.append((row, row.pop("repeat"), row.pop("phase")))
    return found


def _named(column: str) -> bool:
    return column.endswith(("_axis", "_role", "_dtype", "_format"))


def play(recorder: Recorder, work: Workload, steps: range, seed: int = 0, evaluate: bool = True) -> None:
    """Execute the steps of a planned run; a row that is repeated less often comes at the end of each of its periods."""
    rows = rows_of(work)
    for step in steps:
        rng = np.random.default_rng([seed, step])
        phase = max(i for i, p in enumerate(work.phases) if p.first_step <= step)
        for row, repeat, of_phase in rows:
            done, length = step - work.phases[phase].first_step, work.phases[phase].steps
            if of_phase == phase and (done + 1) * repeat // length > done * repeat // length:
                recorder.op(**row, a=operand(row, "a", rng), b=operand(row, "b", rng))
        recorder.end_step()
        if evaluate:
            recorder.evaluation(step + 1, 1 / (step + 1), 1.5 / (step + 1), step / 100, 0.05)
            for row, _, _ in rows:
                if row["kind"] == "gemm" and row["stage"] == "FF" and row["b_role"] == "weight":
                    recorder.interval(row["layer"], "FF", "b", mask_flips=step, gradient_norm=1.0 + step)


def recorded(
    steps: int = 5, recipe: str = "bdwp", pattern: str = "2:4", text: str = MLP, check_every: int = 1, **options: object
) -> Trace:
    """The trace of a run of the planner's rows."""
    work = net(text).training(recipe, pattern, steps=steps, **options)
    recorder = Recorder(check_every)
    play(recorder, work, range(steps))
    return recorder.finish({**INFO, "recipe": recipe, "pattern": pattern})
