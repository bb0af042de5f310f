"""The laws of a trace: a true one breaks none, and each change to it breaks the law that it should."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nmsim.traces.schema import Trace, content_digest
from nmsim.traces.verify import verify
from nmsim.workloads.optable import AXES, Phase
from tests.traces.recordings import NET, recorded


@pytest.fixture(scope="module")
def trace():
    return recorded(steps=4)


def sealed(trace: Trace) -> Trace:
    return replace(trace, digest=content_digest(trace))


def with_op(trace: Trace, column: str, value: int, **where: object) -> Trace:
    """The trace with one value of its op table changed, in the first row that has these names."""
    work = trace.executed
    row = np.flatnonzero(np.all([work.names(c) == v for c, v in where.items()], axis=0))[0]
    columns = dict(work.columns)
    columns[column] = columns[column].copy()
    columns[column][row] = value
    return sealed(replace(trace, executed=replace(work, columns=columns)))


def with_cell(trace: Trace, table: str, column: str, value: float, row: int = -1) -> Trace:
    columns = dict(getattr(trace, table))
    columns[column] = columns[column].copy()
    columns[column][row] = value
    return sealed(replace(trace, **{table: columns}))


def with_work(trace: Trace, **fields: object) -> Trace:
    return sealed(replace(trace, executed=replace(trace.executed, **fields)))


@pytest.mark.parametrize("text", [None, NET], ids=["linear", "conv"])
@pytest.mark.parametrize(
    ("recipe", "pattern"), [("dense", "dense"), ("srste", "1:4"), ("bdwp", "2:8"), ("sdgp", "2:4")]
)
def test_a_true_trace_breaks_no_law(recipe, pattern, text):
    options = {"text": text} if text else {}
    assert verify(recorded(recipe=recipe, pattern=pattern, **options)) == []


def test_the_digest_covers_everything(trace):
    for changed in (
        replace(trace, info={}), replace(trace, check_every=2),
        replace(trace, executed=replace(trace.executed, name="other")),
        replace(trace, evaluations={c: v + 1 for c, v in trace.evaluations.items()}),
    ):  # fmt: skip
        assert verify(changed)[0] == "digest: the contents are not those that were recorded"


FF = {"stage": "FF", "layer": "a"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: sealed(replace(t, info={"model": "x"})), "info: recipe, pattern"),
        (lambda t: sealed(replace(t, info={**t.info, "steps": 5})), "phases: they have 4 steps, but the run 5"),
        (lambda t: with_work(t, phases=(Phase("train", 1, 4),)), "begins at step 1, but the phases before it have 0"),
        (lambda t: with_work(t, phases=(*t.executed.phases, Phase("x", 4, 1))), "phases: 'x' has no op"),
        (lambda t: with_work(t, layers=(*t.executed.layers, "ghost")), "layers: 'ghost' has no op"),
        (lambda t: with_op(t, "repeat", 3, **FF), "repeats: op 0 (a FF): executed 3 times in 4 steps"),
        (lambda t: with_op(t, "repeat", 5, stage="PRUNE"), "executed 5 times in 4 steps"),
        (lambda t: with_op(t, "b_elements", 10**6, **FF), "elements: op 0 (a FF): b has 1,000,000 elements"),
        (lambda t: with_op(t, "a_elements", 0, **FF), "elements: op 0 (a FF): a has 0 elements"),
        (lambda t: with_op(t, "a_elements", -1, stage="VECTOR"), "a has -1 elements"),
        (lambda t: with_op(t, "c_elements", 10**6, stage="PRUNE"), "1,000,000 kept of 512"),
        (lambda t: with_op(t, "m_inserted", 1, **FF), "m_inserted is less than m"),
        (lambda t: with_op(t, "m", 5, stage="BP", layer="b"), "multiply-accumulates, but 2,048 in FF"),
        (lambda t: with_op(t, "c_elements", 500, stage="WU", layer="a"), "c_elements is 500, but b_elements of FF 512"),
        (lambda t: with_op(t, "b_axis", AXES.index("m"), **FF), "claims: op 0 (a FF): operand b along 'm'"),
        (lambda t: with_op(t, "b_axis", AXES.index("k"), stage="WU"), "operand b along 'k'"),
        (lambda t: with_cell(t, "checked", "b", 5, 0), "claims: op 0 (a FF): b checked 5 times in 4 executions"),
        (lambda t: with_cell(t, "checked", "b", 3, 0), "b checked 3 times in 4"),
        (lambda t: with_cell(t, "checked", "a", 1, 0), "a checked 1 times in 4"),
        (
            lambda t: sealed(replace(t, check_every=9, checked={x: v * 0 for x, v in t.checked.items()})),
            "claims: a FF: operand b was never checked",
        ),
        (lambda t: sealed(replace(t, info={**t.info, "recipe": "dense"})), "recipe 'dense' prunes nothing"),
        (lambda t: sealed(replace(t, info={**t.info, "recipe": "static"})), "4 by a recipe with 0 for a mask"),
        (lambda t: with_cell(t, "evaluations", "step", 3), "evaluations: steps do not increase after 3"),
        (lambda t: with_cell(t, "evaluations", "step", 9), "evaluations: step 9 of a run of 4"),
        (lambda t: with_cell(t, "evaluations", "train_loss", np.nan), "evaluations: train_loss at step 4 is nan"),
        (lambda t: with_cell(t, "evaluations", "test_accuracy", 1.5), "test_accuracy is 1.5, not a share"),
        (lambda t: with_cell(t, "evaluations", "learning_rate", -1.0), "learning_rate is -1"),
        (lambda t: with_cell(t, "intervals", "step", 0), "intervals: steps decrease after 4"),
        (lambda t: with_cell(t, "intervals", "step", 5), "intervals: step 5 of a run of 4"),
        (lambda t: with_cell(t, "intervals", "density", 1.5), "b FF operand b: density is 1.5 at step 4"),
        (lambda t: with_cell(t, "intervals", "density", 0.6), "density 0.6 at step 4, above 0.5"),
        (lambda t: with_cell(t, "intervals", "gradient_norm", np.inf), "gradient_norm is inf"),
        (lambda t: with_cell(t, "intervals", "mask_flips", -1), "mask_flips is -1"),
        (lambda t: with_cell(t, "intervals", "checked", 9), "12 checks in intervals, 4 in the ops"),
        (lambda t: with_cell(t, "intervals", "stage", 3), "b PRUNE operand b: no such product was executed"),
    ],
)
def test_each_change_breaks_its_law(trace, change, message):
    broken = verify(change(trace))
    assert any(message in line for line in broken), broken
    assert not any(line.startswith("digest") for line in broken)


def test_a_recipe_without_its_searches_is_caught(trace):
    """BDWP searches its masks every step: without PRUNE rows the run was another one."""
    rows = ~trace.executed.is_stage("PRUNE")
    checked = {letter: values[rows] for letter, values in trace.checked.items()}
    bare = sealed(replace(trace, executed=trace.executed.select(rows), checked=checked))
    assert verify(bare) == ["searches: a: no mask was searched for the weight of FF"]
    slow = sealed(replace(bare, info={**bare.info, "refresh": 100}))
    assert verify(slow) == []


def test_ops_out_of_the_order_of_their_phases_are_caught():
    trace = recorded(steps=4, recipe="asp", start=2)
    assert [p.name for p in trace.executed.phases] == ["dense", "sparse"]
    order = np.argsort(-trace.executed["phase"], kind="stable")
    checked = {letter: values[order] for letter, values in trace.checked.items()}
    turned = sealed(replace(trace, executed=trace.executed.select(order), checked=checked))
    assert any("belongs to a phase before that of the op above it" in line for line in verify(turned))


def test_densities_are_bound_by_the_phases_that_an_interval_covers():
    """Dense for two steps, 2:4 after: 0.9 is fine for the interval of the dense phase, not for the last."""
    trace = recorded(steps=4, recipe="asp", start=2)
    at = {step: i for i, step in enumerate(trace.intervals["step"].tolist())}
    assert verify(with_cell(trace, "intervals", "density", 0.9, at[2])) == []
    assert "density 0.9 at step 3, above 0.5" in verify(with_cell(trace, "intervals", "density", 0.9, at[3]))[0]


def test_patterns_of_every_kind_bound_their_density():
    for pattern, most in (("fan-in:4", 4 / 16), ("4:2:8", 0.25), ("unstructured:0.25", 0.25)):
        trace = recorded(steps=2, recipe="bdwp", pattern=pattern)
        assert verify(trace) == []
        assert any("above" in line for line in verify(with_cell(trace, "intervals", "density", most + 0.01, 0)))
