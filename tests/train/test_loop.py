"""The training loop: what it did is what the planner lists, and a run that was cut off ends as if it had not been."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nmsim
from nmsim.errors import NmsimError
from nmsim.traces.io import to_bytes
from nmsim.traces.verify import verify
from nmsim.train import checkpoint
from nmsim.train.checkpoint import CheckpointError
from nmsim.train.config import TrainingFile
from nmsim.train.loop import DivergedError, Trainer
from nmsim.train.update import master_dtype, rule_name
from nmsim.workloads.optable import Workload

TASKS: dict[str, dict[str, Any]] = {
    "mlp": {"model": {"name": "mlp", "sizes": {"width": 32}}, "data": ("signals", {"train": 64, "test": 32})},
    "resnet9_narrow": {
        "model": {"name": "resnet9_narrow", "sizes": {"width": 8}},
        "data": ("images", {"size": 12, "train": 16, "test": 8}),
    },
    "vgg_small": {
        "model": {"name": "vgg_small", "sizes": {"width": 8}},
        "data": ("images", {"size": 8, "train": 16, "test": 8}),
    },
    "vit_tiny": {
        "model": {"name": "vit_tiny", "sizes": {"dim": 16, "depth": 2, "heads": 2}},
        "data": ("images", {"size": 8, "train": 16, "test": 8}),
    },
    "language_model": {
        "model": {"name": "language_model", "sizes": {"dim": 16, "heads": 2}},
        "data": ("markov", {"train": 32, "test": 16}),
    },
    "transformer": {
        "model": {"name": "transformer", "sizes": {"dim": 16, "depth": 1, "heads": 2}},
        "data": ("translation", {"train": 32, "test": 16}),
    },
}
RECIPES = {
    "dense": "dense", "ste": "2:4", "srste": "2:8", "sdgp": "2:4", "sdgp_maxnorm": "1:4", "sdwp": "2:8",
    "bdwp": "2:8", "static": "2:4", "asp": "2:4",
}  # fmt: skip


def config(task: str, recipe: str = "dense", steps: int = 4, **more: Any) -> TrainingFile:
    name, options = TASKS[task]["data"]
    fields: dict[str, Any] = {
        "kind": "training", "model": TASKS[task]["model"], "data": {"name": name, "options": options},
        "recipe": recipe, "pattern": RECIPES.get(str(recipe), "dense"), "steps": steps, "batch": 4,
        "schedule": {"name": "constant", "rate": 0.01}, "evaluate_every": 2, "check_every": 1,
    }  # fmt: skip
    return TrainingFile.model_validate(fields | more)


COLUMNS = (
    "layer", "stage", "kind", "a_pattern", "b_pattern", "a_axis", "b_axis", "a_role", "b_role", "c_role",
    "a_dtype", "b_dtype", "c_dtype",
)  # fmt: skip
NUMBERS = (
    "m", "n", "k", "count", "m_inserted", "a_elements", "b_elements", "c_elements", "repeat", "phase",
    "ops_per_element",
)  # fmt: skip


def ops(work: Workload) -> list[tuple[Any, ...]]:
    """Every op with all that the op table says of it, but its note."""
    columns = [*(work.names(c) for c in COLUMNS), *(work[c].tolist() for c in NUMBERS)]
    return [
        tuple(str(x) if not isinstance(x, float) else round(x, 9) for x in row) for row in zip(*columns, strict=True)
    ]


def planned(trainer: Trainer) -> Workload:
    c = trainer.config
    return trainer.model.forward().training(
        c.recipe, c.pattern, steps=c.steps, dtype=c.precision, optimizer=rule_name(c), master_dtype=master_dtype(c),
        **({"start": c.start} if c.start else {}),
    )  # fmt: skip


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("task", TASKS)
def test_the_trace_lists_what_the_planner_lists(task: str, recipe: str):
    """All ops in the same order, with the same sizes, patterns and repeats; mask searches, which the trainer makes
    when a mask is first used and the planner lists after the update, as a multiset."""
    trainer = Trainer(config(task, recipe))
    trainer.train()
    trace = trainer.trace()
    assert verify(trace) == []
    did, plan = ops(trace.workload()), ops(planned(trainer))
    search = COLUMNS.index("stage")
    assert [op for op in did if op[search] != "PRUNE"] == [op for op in plan if op[search] != "PRUNE"]
    assert Counter(op for op in did if op[search] == "PRUNE") == Counter(op for op in plan if op[search] == "PRUNE")


def test_dense_steps_before_the_recipe_are_a_phase():
    trainer = Trainer(config("mlp", "asp", steps=5, start=2))
    trainer.train()
    work, plan = trainer.trace().workload(), planned(trainer)
    assert [(p.name, p.first_step, p.steps) for p in work.phases] == [("dense", 0, 2), ("sparse", 2, 3)]
    assert Counter(ops(work)) == Counter(ops(plan))


@pytest.mark.parametrize("precision", ["fp16", "bf16", "fp64"])
def test_precisions_are_recorded(precision: str):
    trainer = Trainer(config("mlp", "bdwp", precision=precision))
    trainer.train()
    assert Counter(ops(trainer.trace().workload())) == Counter(ops(planned(trainer)))


def test_a_trace_can_be_simulated():
    trainer = Trainer(config("resnet9_narrow", "bdwp", precision="fp16"))
    trainer.train()
    did = nmsim.simulate("sat_vcu1525", trainer.trace().workload())
    plan = nmsim.simulate("sat_vcu1525", planned(trainer))
    assert did.latency_s == pytest.approx(plan.latency_s, rel=1e-12)
    assert did.energy_j == pytest.approx(plan.energy_j, rel=1e-12)


def final_state(trainer: Trainer) -> dict[str, bytes]:
    return {p.name: p.value.tobytes() for p in trainer.parameters} | {"trace": to_bytes(trainer.trace())}


@pytest.mark.parametrize(
    ("task", "recipe"), [("resnet9_narrow", "bdwp"), ("transformer", "srste"), ("mlp", "asp"), ("vit_tiny", "sdgp")]
)
@pytest.mark.parametrize("cut", [1, 2, 5])
def test_a_resumed_run_ends_in_the_same_bits(task: str, recipe: str, cut: int, tmp_path: Path):
    """Steps, evaluations, statistics: parameters and trace are equal to the byte wherever the run was cut."""
    settings = config(task, recipe, steps=6, optimizer={"name": "adamw", "weight_decay": 0.01})
    whole = Trainer(settings)
    whole.train()
    first = Trainer(settings)
    first.train(cut)
    checkpoint.save(first, tmp_path / "run.checkpoint")
    second = Trainer(settings)
    checkpoint.restore(second, tmp_path / "run.checkpoint")
    second.train()
    assert final_state(second) == final_state(whole)


def test_the_same_seed_is_the_same_run():
    runs = []
    for seed in (3, 3, 4):
        trainer = Trainer(config("mlp", "bdwp", seed=seed))
        trainer.train()
        runs.append(final_state(trainer))
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_evaluating_changes_nothing():
    plain, looked_at = Trainer(config("resnet9_narrow", "srste")), Trainer(config("resnet9_narrow", "srste"))
    plain.train(2)
    looked_at.train(1)
    looked_at.evaluate()
    looked_at.evaluate("train")
    looked_at.train(1)
    assert all(np.array_equal(a.value, b.value) for a, b in zip(plain.parameters, looked_at.parameters, strict=True))


def test_divergence_names_layer_stage_and_step():
    """A learning rate of 1e18 overflows within a few steps; the steps before it are kept."""
    trainer = Trainer(config("mlp", steps=20, schedule={"name": "constant", "rate": 1e18}, evaluate_every=100))
    with pytest.raises(DivergedError, match=r"diverged at step \d+: \S+ (FF|WU)"):
        trainer.train()
    assert 0 < trainer.step < 20
    assert trainer.trace().steps == trainer.step


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path):
    trainer = Trainer(config("mlp"))
    trainer.train(1)
    checkpoint.save(trainer, tmp_path / "c")
    with pytest.raises(CheckpointError, match="other settings: pattern, recipe"):
        checkpoint.restore(Trainer(config("mlp", "srste")), tmp_path / "c")


@pytest.mark.parametrize("content", [b"", b"PK", b"\x00" * 400, None])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, content: bytes | None):
    trainer = Trainer(config("mlp"))
    trainer.train(1)
    checkpoint.save(trainer, tmp_path / "c")
    data = (tmp_path / "c").read_bytes()
    (tmp_path / "c").write_bytes(data[: len(data) // 2] if content is None else content)
    with pytest.raises(CheckpointError, match="not a checkpoint of nmsim, or a damaged one"):
        checkpoint.restore(Trainer(config("mlp")), tmp_path / "c")


def rewritten(path: Path, changes: dict[str, bytes | None]) -> None:
    """The npz with the contents of some members replaced, or left out."""
    with zipfile.ZipFile(path) as archive:
        members: dict[str, bytes | None] = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (members | changes).items():
            if content is not None:
                archive.writestr(name, content)


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def npy_header(elements: int) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f4", "fortran_order": False, "shape": (elements,)})
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"execution/mask/FF/fc2.npy": npy(np.ones((32, 32), bool))}, "altered"),
        ({"optimizer/fc1.weight/velocity.npy": None}, "altered"),
        ({"parameter/fc9.weight.npy": npy(np.zeros(3))}, "altered"),
        ({"meta.npy": npy(np.array('{"format": "nmsim checkpoint", "version": 99}'))}, "version 99; this nmsim reads"),
        ({"meta.npy": npy(np.array('{"format": "nmsim checkpoint"}'))}, "not a checkpoint of nmsim"),
        ({"parameter/fc1.bias.npy": npy(np.array([print], object))}, "Object arrays cannot be loaded"),
        ({"parameter/fc1.bias.npy": npy_header(2**40)}, "not a checkpoint of nmsim, or a damaged one"),
        ({"parameter/fc1.bias.npy": npy_header(2**29) + bytes(2**21)}, "it unpacks to 2,[0-9,]* bytes"),
    ],
)
def test_an_altered_checkpoint_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, bytes | None], message: str
):
    """A mask of all ones, a part too many or too few, pickles, and members larger than a checkpoint of the run."""
    monkeypatch.setattr(checkpoint, "MAX_TRACE_BYTES", 2**20)
    trainer = Trainer(config("mlp", "bdwp", pattern="2:8"))
    trainer.train(1)
    checkpoint.save(trainer, tmp_path / "c")
    rewritten(tmp_path / "c", changes)
    with pytest.raises(CheckpointError, match=message):
        checkpoint.restore(Trainer(config("mlp", "bdwp", pattern="2:8")), tmp_path / "c")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"name": "resnet10"}}, "unknown model 'resnet10'; did you mean resnet9"),
        ({"model": {"name": "vit_tiny"}}, "cannot learn 'signals'"),
        ({"model": {"name": "mlp", "sizes": {"widht": 3}}}, "unknown size of mlp 'widht'; did you mean width"),
        ({"model": {"name": "mlp", "sizes": {"classes": 3}}}, "classes of mlp is 10 by the data"),
        ({"batch": 1000}, "larger than the split"),
        ({"model": {"name": "mlp", "sizes": {"depth": 2}}, "recipe": "bdwp", "pattern": "2:4"}, "prunes nothing of"),
        ({"keep_dense": ["fc9"], "recipe": "bdwp", "pattern": "2:4"}, "fc9"),
    ],
)
def test_mistakes_are_refused_before_training(change: dict[str, Any], message: str):
    with pytest.raises(NmsimError, match=message):
        Trainer(config("mlp", **change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": {"name": "signals", "options": {"seed": 3}}}, "`seed` at the top level"),
        (
            {"schedule": {"name": "constant", "rate": 0.1, "warmup": 5}},
            "a warm-up of 5 steps is longer than the run of 4",
        ),
        ({"schedule": {"name": "cosine", "rate": 0.1, "every": 5}}, "`every` belongs to the step schedule"),
        ({"recipe": "asp", "pattern": "2:4", "start": 5}, "start: is step 5 of 4: nothing is ever pruned"),
        ({"recipe": "bdwp", "pattern": "dense"}, "needs a pattern"),
        ({"optimizer": {"name": "adamw", "momentum": 0.9}}, "momentum belongs to sgd"),
    ],
)
def test_settings_that_do_not_go_together(change: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        config("mlp", **change)


@pytest.mark.parametrize(
    ("model", "size", "message"),
    [("resnet9", 8, "too small; take larger images"), ("vit_tiny", 10, "patches of 4 do not divide images of 10")],
)
def test_images_that_do_not_fit(model: str, size: int, message: str):
    data = {"name": "images", "options": {"size": size, "train": 8, "test": 4}}
    with pytest.raises(NmsimError, match=message):
        Trainer(config("mlp", model={"name": model}, data=data))


TRAINING = """\
kind: training
model: {name: mlp, sizes: {width: 64}}
data: {name: signals, options: {train: 512, test: 64}}
recipe: bdwp
pattern: 2:8
steps: 3000
batch: 64
schedule: {name: constant, rate: 0.01}
evaluate_every: 500
checkpoint_every: 100
"""


def train(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    (folder / "config.yaml").write_text(TRAINING)
    command = [sys.executable, "-m", "nmsim", "train", "config.yaml", "-o", "run.npz", *arguments]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.parametrize("kill", [signal.SIGINT, signal.SIGKILL])
def test_a_killed_command_continues_to_the_same_file(kill: signal.Signals, tmp_path: Path):
    """Interrupted, it leaves a checkpoint of where it stopped; killed, the last one; the same command ends the run."""
    (tmp_path / "whole").mkdir()
    uninterrupted = train(tmp_path / "whole")
    uninterrupted.communicate(timeout=120)
    assert uninterrupted.returncode == 0
    process = train(tmp_path)
    deadline = time.monotonic() + 60
    while not (tmp_path / "run.npz.checkpoint").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, kill)
    _, errors = process.communicate(timeout=60)
    if (tmp_path / "run.npz").exists():
        pytest.skip("the run ended before it could be stopped")
    if kill == signal.SIGINT:
        assert process.returncode == 130
        assert b"the same command continues" in errors
    assert (tmp_path / "run.npz.checkpoint").exists()
    (tmp_path / ".run.npz.checkpoint.1.tmp").write_bytes(b"half a checkpoint")  # as of a run killed while it wrote
    again = train(tmp_path)
    output, _ = again.communicate(timeout=120)
    assert again.returncode == 0
    assert b"continuing at step" in output
    assert (tmp_path / "run.npz").read_bytes() == (tmp_path / "whole" / "run.npz").read_bytes()
    assert not list(tmp_path.glob("*checkpoint*")) + list(tmp_path.glob(".*checkpoint*"))


def test_the_first_sparse_step_is_that_of_layers_that_fit():
    """SdGf-Geometric towards 1:4 has 8:32, 4:16, 2:8, 1:4, five steps each: 24 channels take the third and the last."""
    model = {"name": "mlp", "sizes": {"width": 24}}
    trainer = Trainer(config("mlp", "sdgf_geometric", steps=20, pattern="1:4", model=model))
    trainer.train()
    trace = trainer.trace()
    assert trace.info["first_sparse_step"] == 10
    assert next(p.first_step for p in trace.executed.phases if p.name == "sparse") == 10


def test_mask_flips_are_counted_from_the_first_mask():
    """A mask that changes within the first interval shows up in its flips and its churn."""
    trainer = Trainer(config("mlp", "ste", steps=4, pattern="2:4", evaluate_every=4, schedule={
        "name": "constant", "rate": 0.5,
    }))  # fmt: skip
    trainer.train()
    table = trainer.trace().intervals
    assert table["mask_flips"].max() > 0
    assert np.nanmax(table["mask_churn"]) > 0
