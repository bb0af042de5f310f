"""The recorder: what a step was, which steps are one phase, and what it refuses to write down."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nmsim
from nmsim.sparsity.parts import Prune
from nmsim.sparsity.recipe import Recipe
from nmsim.traces.io import to_bytes
from nmsim.traces.phases import Search, merge
from nmsim.traces.recorder import Recorder
from nmsim.traces.schema import TraceError
from nmsim.traces.verify import verify
from tests.traces.recordings import INFO, NET, net, play, recorded

COMPARED = (
    "layer", "stage", "kind", "m", "n", "k", "count", "a_pattern", "b_pattern", "a_axis", "b_axis", "repeat", "phase",
    "a_elements", "b_elements", "c_elements", "a_role", "b_role", "c_role", "m_inserted", "ops_per_element", "note",
    "a_dtype", "b_dtype", "c_dtype",
)  # fmt: skip
PRUNED = np.tile([0.0, 1.0, 0.0, 2.0], (4, 2)).T  # [8, 4], 2:4 along the first axis


def simple(recorder: Recorder, m: int = 4, layer: str = "fc") -> None:
    recorder.op(layer, "FF", m=m, n=4, k=8, b_role="weight")


def assert_same_table(first, second):
    left, right = first.to_frame(), second.to_frame()
    for column in COMPARED:
        assert left[column].tolist() == right[column].tolist(), column


@pytest.mark.parametrize("text", [None, NET], ids=["linear", "conv"])
@pytest.mark.parametrize("recipe", ["dense", "srste", "sdgp", "sdwp", "bdwp", "static"])
def test_a_recorded_run_is_the_planned_run(recipe, text):
    """Five steps, each executing the planner's rows, give the planner's table of five steps, in its order."""
    pattern = "dense" if recipe == "dense" else "2:4"
    work = net(*[text] if text else []).training(recipe, pattern, steps=5)
    recorder = Recorder()
    play(recorder, work, range(5))
    trace = recorder.finish({**INFO, "recipe": recipe, "pattern": pattern})
    assert_same_table(trace.workload(), work)
    assert trace.workload().phases == work.phases
    assert verify(trace) == []


@settings(max_examples=20, deadline=None)
@given(
    refresh=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    steps=st.integers(1, 9),
    pattern=st.sampled_from(["2:4", "1:8", "2:8", "4:2:8", "fan-in:4", "unstructured:0.25"]),
)
def test_mask_searches_of_any_period_are_one_row(refresh, steps, pattern):
    """A mask searched every r steps has repeat steps // r, and parts no phase. Searches that never share a step have
    no order among themselves; all else is in the planner's.
    """
    prunes = (
        Prune(stage="FF", operand="weight", direction="in", refresh=refresh[0]),
        Prune(stage="BP", operand="weight", direction="out", refresh=refresh[1]),
    )
    work = net().training(Recipe(name="mine", prunes=prunes), pattern, steps=steps)
    recorder = Recorder()
    play(recorder, work, range(steps), evaluate=False)
    trace = recorder.finish(INFO | {"recipe": "mine"})
    tables = [w.to_frame()[list(COMPARED)] for w in (trace.workload(), work)]
    one, other = (list(t.itertuples(index=False, name=None)) for t in tables)
    assert sorted(map(str, one)) == sorted(map(str, other))
    assert [r for r in one if "PRUNE" not in r] == [r for r in other if "PRUNE" not in r]
    assert verify(trace) == []


@pytest.mark.parametrize("steps", [[["b"], ["a", "b"]], [["a"], ["b"], ["a", "b"]], [["a", "b"], ["b"]]])
def test_searches_of_one_step_are_in_its_order(steps):
    known: list[Search] = []
    for step in steps:
        merge(known, [(7, "ab".index(name)) for name in step])
    assert [s.row for s in known] == [0, 1]
    assert [s.count for s in known] == [sum("a" in s for s in steps), sum("b" in s for s in steps)]


def test_equal_searches_of_one_step_are_two():
    known: list[Search] = []
    for step in ([(0, 5), (0, 5)], [(0, 5)]):
        merge(known, step)
    assert [(s.row, s.nth, s.count) for s in known] == [(5, 0, 2), (5, 1, 1)]


def test_a_late_start_gives_the_planners_two_phases():
    work = net().training("asp", "2:4", steps=7, start=3)
    recorder = Recorder()
    play(recorder, work, range(7))
    trace = recorder.finish(INFO | {"recipe": "asp"})
    assert trace.workload().phases == work.phases
    assert [p.name for p in work.phases] == ["dense", "sparse"]
    assert verify(trace) == []


def test_equal_steps_are_one_phase_and_another_step_begins_a_new_one():
    """Batches of 4, 4, 4, 2 and 4 rows: three phases of 3, 1 and 1 steps."""
    recorder = Recorder()
    for m in (4, 4, 4, 2, 4):
        simple(recorder, m)
        recorder.end_step()
    work = recorder.finish({"model": "net"}).workload()
    assert [(p.name, p.first_step, p.steps) for p in work.phases] == [
        ("dense", 0, 3), ("dense 2", 3, 1), ("dense 3", 4, 1)
    ]  # fmt: skip
    assert work["m"].tolist() == [4, 2, 4]
    assert work["repeat"].tolist() == [3, 1, 1]
    assert work["phase"].tolist() == [0, 1, 2]


def test_an_op_executed_twice_in_a_step_is_two_rows():
    recorder = Recorder()
    for _ in range(3):
        simple(recorder)
        simple(recorder)
        recorder.end_step()
    assert recorder.finish({}).workload()["repeat"].tolist() == [3, 3]


@given(st.lists(st.lists(st.sampled_from(range(5)), max_size=6).map(sorted), max_size=8))
def test_merged_searches_are_all_counted(steps):
    """Each step counts once for each of its searches, and no search more often than there are steps."""
    known: list[Search] = []
    for step in steps:
        merge(known, [(after, after) for after in step])
    assert sum(s.count for s in known) == sum(map(len, steps))
    assert all(s.count <= len(steps) for s in known)


def test_a_lie_is_refused_and_not_recorded():
    """One group of four with three non-zeros, in an operand that is said to be 2:4."""
    recorder = Recorder()
    row = {"m": 4, "n": 4, "k": 8, "b_role": "weight", "b_pattern": "2:4", "b_axis": "k"}
    lie = PRUNED.copy()
    lie[0, 0] = 1.0
    with pytest.raises(TraceError, match=r"fc FF operand b \(weight\): recorded as 2:4, but 1 of its groups"):
        recorder.op("fc", "FF", **row, b=lie)
    with pytest.raises(TraceError, match="step 0 ends without an op"):
        recorder.end_step()
    recorder.op("fc", "FF", **row, b=PRUNED)
    recorder.end_step()
    assert recorder.finish({}).checked["b"].tolist() == [1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"b": None}, "without the operand that would prove it"),
        ({"b": PRUNED[:4]}, r"an array \[4, 4\] is not 1 of \[8, 4\]"),
        ({"b": PRUNED.T}, r"an array \[4, 8\] is not 1 of \[8, 4\]"),
        ({"b": PRUNED, "count": 2}, r"an array \[8, 4\] is not 2 of \[8, 4\]"),
        ({"b": PRUNED[:4], "b_along": 0}, "has 16 elements, not the 32"),
        ({"b": PRUNED.reshape(16, 2), "b_along": 0}, "has 16 elements along axis 0, not the 8 of k"),
        ({"b": PRUNED[:0], "b_along": 0, "b_elements": 0}, "has 0 elements"),
        ({"b": PRUNED, "b_along": 2}, "has no axis 2"),
        ({"b": PRUNED.astype(object)}, "needs an array of numbers"),
        ({"b": PRUNED, "b_axis": "m"}, "2:4 along 'm'; a pattern runs along k or n"),
        ({"b": PRUNED, "b_axis": ""}, "2:4 along ''"),
        ({"b": PRUNED, "b_pattern": "dense"}, "dense along 'k'"),
        ({"b": PRUNED, "b_pattern": "2:x"}, "not a pattern"),
        ({"b": PRUNED, "kind": "relu"}, "relu is no product"),
        ({"b": PRUNED, "n": 4.5}, "cannot be interpreted as an integer"),
        ({"b": PRUNED, "m": 0}, "m must be at least 1"),
        ({"b": PRUNED, "m": [1]}, "a value that is no value of an op"),
        ({"b": PRUNED, "stage": "FB"}, "unknown stage 'FB'"),
        ({"b": PRUNED, "b_rolle": "weight"}, "did you mean b_role"),
        ({"b": PRUNED, "repeat": 2}, "repeat is counted by the recorder"),
    ],
)
def test_what_cannot_be_proved_is_refused(change, message):
    row = {"stage": "FF", "m": 4, "n": 4, "k": 8, "b_role": "weight", "b_pattern": "2:4", "b_axis": "k"}
    recorder = Recorder()
    with pytest.raises(TraceError, match=message):
        recorder.op("fc", **row | change)
    assert not recorder._run.is_open


def test_a_convolution_may_show_its_operands_as_they_lie():
    """Weight [kh, kw, in, out] and gradient [B, H, W, out]: groups along channels, each at one kernel position."""
    weight, dy = np.zeros((3, 3, 8, 16)), np.zeros((2, 5, 5, 16))
    weight[:, :, ::2], dy[..., ::4] = 1.0, 1.0
    recorder = Recorder()
    sizes = {"m": 50, "n": 16, "k": 72, "b_elements": weight.size}
    recorder.op("c", "FF", **sizes, b_pattern="2:4", b_axis="k", b=weight, b_along=-2)
    back = {"m": 50, "n": 8, "k": 144, "a_elements": dy.size, "a_pattern": "1:4", "a_axis": "k"}
    recorder.op("c", "BP", **back, a=dy, a_along=-1)
    dy[0, 0, 0, 1] = 1.0
    with pytest.raises(TraceError, match="c BP operand a"):
        recorder.op("c", "BP", **back, a=dy, a_along=-1)


def test_a_fan_in_counts_all_kernel_positions():
    """Weight [2, 2, 4, 3], 2 non-zeros at each of 4 positions in every column: fan-in 8, not 2."""
    weight = np.zeros((2, 2, 4, 3))
    weight[:, :, :2] = 1.0
    recorder = Recorder()
    sizes = {"m": 5, "n": 3, "k": 16, "b_axis": "k", "b": weight, "b_along": -2}
    recorder.op("c", "FF", **sizes, b_pattern="fan-in:8")
    with pytest.raises(TraceError, match="3 of its groups"):
        recorder.op("c", "FF", **sizes, b_pattern="fan-in:7")


def test_groups_that_would_cross_kernel_positions_are_no_proof():
    """k = 9 · 6: groups of 4 along 6 channels are not groups of 4 along 54."""
    with pytest.raises(TraceError, match="has 6 elements along axis -2, not the 54 of k"):
        Recorder().op(
            "c", "FF", m=5, n=4, k=54, b_pattern="2:4", b_axis="k", b=np.zeros((3, 3, 6, 4)), b_along=-2
        )  # fmt: skip


def test_check_names_what_broke():
    with pytest.raises(TraceError, match=r"layer 3: recorded as 1:4, but 8 of its groups"):
        Recorder().check(PRUNED, "1:4", 0, "layer 3")
    Recorder().check(PRUNED, "2:4", 0)


def test_checks_are_counted_as_they_are_made():
    """Every third step of seven is searched: steps 0, 3, 6; an unsearched lie of step 1 is not noticed."""
    recorder = Recorder(check_every=3)
    for step in range(7):
        values = np.ones_like(PRUNED) if step == 1 else PRUNED
        recorder.op("fc", "FF", m=4, n=4, k=8, b_pattern="2:4", b_axis="k", b=values)
        recorder.end_step()
    recorder.interval("fc", "FF", "b", mask_flips=2)
    trace = recorder.finish(INFO | {"recipe": "static"})
    assert trace.checked["b"].tolist() == [3]
    assert trace.intervals["checked"].tolist() == [3]
    assert trace.intervals["density"].tolist() == [0.5]
    assert verify(trace) == []


def test_a_row_that_was_not_in_the_last_step_is_checked_whenever_it_comes():
    recorder = Recorder(check_every=100)
    simple(recorder)
    recorder.end_step()
    with pytest.raises(TraceError, match="recorded as 2:4"):
        recorder.op("fc", "FF", m=4, n=4, k=8, b_pattern="2:4", b_axis="k", b=np.ones((8, 4)))


def test_the_mean_density_of_an_interval_is_measured():
    """Operands of density 1/2 and 1/4 between two intervals; then none, which is not measured."""
    recorder = Recorder()
    for values in (PRUNED, PRUNED * (PRUNED == 1)):
        recorder.op("fc", "FF", m=4, n=4, k=8, b_pattern="2:4", b_axis="k", b_role="weight", b=values)
        recorder.end_step()
    recorder.interval("fc", "FF", "b")
    recorder.interval("fc", "FF", "b")
    recorder.interval("fc", "FF", "a", density=0.75)
    density = recorder.finish({}).intervals["density"]
    assert density[[0, 2]].tolist() == [0.375, 0.75]
    assert math.isnan(density[1])


def test_a_discarded_step_leaves_nothing():
    row = {"m": 4, "n": 4, "k": 8, "b_pattern": "2:4", "b_axis": "k", "b": PRUNED}
    recorder = Recorder()
    recorder.op("fc", "FF", **row)
    recorder.end_step()
    for discarded in ("fc", "other"):
        recorder.op(discarded, "FF", **row)
        recorder.discard_step()
    recorder.interval("fc", "FF", "b")
    trace = recorder.finish(INFO | {"recipe": "static"})
    assert trace.executed.layers == ("fc",)
    assert trace.intervals["checked"].tolist() == [1]
    assert verify(trace) == []


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda r: r.evaluation(2, 1, 1, 1, 1), "an evaluation at step 2, but the last was at -1 and 1 steps are done"),
        (lambda r: [r.evaluation(1, 1, 1, 1, 1) for _ in range(2)], "an evaluation at step 1, but the last was at 1"),
        (lambda r: r.interval("fc", "WU", "b"), "no product has had"),
        (lambda r: [simple(r), r.interval("fc", "FF", "b")], "end_step comes first"),
        (lambda r: [simple(r), r.finish({})], "end_step comes first"),
        (lambda r: [simple(r), r.state()], "end_step comes first"),
        (lambda r: r.finish({"loss": math.nan}), "plain JSON data"),
        (lambda r: r.finish({"model": object()}), "plain JSON data"),
        (lambda r: Recorder().finish({}), "end_step comes first"),
        (lambda r: Recorder(0), "check_every must be at least 1"),
        (lambda r: r.restore({}), "not the state of a recorder"),
        (lambda r: r.restore({"recorder": np.frombuffer(b"{}", np.uint8)}), "not the state of a recorder"),
        (lambda r: r.restore({"recorder": np.frombuffer(b"[1", np.uint8)}), "not the state of a recorder"),
    ],
)
def test_calls_out_of_order_are_refused(act, message):
    recorder = Recorder()
    simple(recorder)
    recorder.end_step()
    with pytest.raises(TraceError, match=message):
        act(recorder)


@settings(max_examples=10, deadline=None)
@given(cut=st.integers(0, 6), check_every=st.integers(1, 4))
def test_a_resumed_run_gives_the_same_file(cut, check_every):
    """A run of 6 steps that changes pattern at step 3, cut anywhere and resumed through a checkpoint file."""
    work = net().training("bdwp", "2:4", steps=6, start=3)
    whole, first, second = (Recorder(check_every) for _ in range(3))
    play(whole, work, range(6))
    play(first, work, range(cut))
    checkpoint = io.BytesIO()
    np.savez(checkpoint, **first.state())
    checkpoint.seek(0)
    second.restore(np.load(checkpoint, allow_pickle=False))
    assert second.steps == cut
    play(second, work, range(cut, 6))
    assert to_bytes(second.finish(INFO)) == to_bytes(whole.finish(INFO))


def test_a_trace_is_simulated_like_its_plan():
    trace = recorded(steps=5)
    plan = net().training("bdwp", "2:4", steps=5)
    one, other = (nmsim.simulate("sat_vcu1525", work) for work in (trace.workload(), plan))
    assert one.cycles == other.cycles
    assert one.energy_j == pytest.approx(other.energy_j, rel=1e-12)
    assert trace.workload().info["steps"] == 5
    assert "config" not in trace.workload().info
