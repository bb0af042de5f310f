"""`nmsim run --engine event`: the result, its files, and what is refused."""

from __future__ import annotations

STEP = ("run", "sat_vcu1525", "resnet9", "--recipe", "bdwp", "--pattern", "2:8", "--batch", "2")


def test_event_run_writes_a_timeline(nmsim_, tmp_path):
    outcome = nmsim_(*STEP, "--engine", "event", "-o", tmp_path / "out")
    assert outcome.code == 0
    assert "event engine" in outcome.out
    assert "analytic latency / event latency - 1 = +" in outcome.err
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"timeline.csv", "timeline.trace.json.gz", "timeline.png", "result.json", "ops.csv"} <= written
    assert {"power.csv", "power.png"} <= written
    assert "over time, every op once: average " in outcome.out
    assert "difference_because" in (tmp_path / "out" / "ops.csv").read_text().splitlines()[0]
    assert nmsim_(*STEP, "-o", tmp_path / "out").code == 0
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert not any(name.startswith(("timeline", "power")) for name in left)


def test_a_budget_gives_a_partial_result(nmsim_):
    outcome = nmsim_(*STEP, "--engine", "event", "--max-tiles", "200")
    assert outcome.code == 0
    assert "partial: after" in outcome.err
    assert "event (partial) engine" in outcome.out


def test_options_of_the_event_engine_are_refused_elsewhere(nmsim_):
    outcome = nmsim_(*STEP, "--max-tiles", "200")
    assert (outcome.code, outcome.out) == (2, "")
    assert "the analytic engine has no option 'max_tiles'" in outcome.err
    assert nmsim_(*STEP, "--engine", "events").code == 2
