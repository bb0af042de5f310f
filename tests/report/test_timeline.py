"""Timelines: rows, chart and trace tell the same, every byte and every cycle of the result."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest

import nmsim
from nmsim.engines.event.engine import simulate
from nmsim.errors import UnsupportedError
from nmsim.report import timeline
from nmsim.report.plots import png


@pytest.fixture(scope="module")
def result():
    return nmsim.simulate(
        "sat_vcu1525", nmsim.load_workload("resnet9", batch=4).training("bdwp", "2:8"), engine="event"
    )


@pytest.fixture(scope="module")
def frame(result):
    return result.timeline()


def test_every_span_is_there(result, frame):
    """The bytes are those of the result, weights that were fetched ahead among them, each unit does one thing at a
    time, the last span ends with the run; skipping what repeats hides none."""
    assert frame.attrs["complete"]
    assert any(execution.outcome.fetched for execution in result.executions)
    assert frame["bytes"].sum() == pytest.approx(result.dram_bytes, abs=3 * len(result.workload))
    assert frame["end_cycle"].max() == result.cycles
    for _, spans in frame.groupby("unit"):
        spans = spans.sort_values(["start_cycle", "end_cycle"])
        assert (spans["end_cycle"].to_numpy()[:-1] <= spans["start_cycle"].to_numpy()[1:]).all()
    full = simulate(result.arch, result.workload, extrapolate=False).timeline()
    columns = ["start_cycle", "end_cycle", "op", "unit", "phase", "bytes"]
    assert (
        frame[columns].sort_values(columns).to_numpy().tolist()
        == full[columns].sort_values(columns).to_numpy().tolist()
    )


def test_a_partial_run_shows_what_it_reached(result):
    """Weights that were fetched for a product which the budget did not reach belong to no op of the result."""
    for tiles in range(100, 1000, 100):
        partial = simulate(result.arch, result.workload, max_tiles=tiles)
        shown = partial.timeline()
        assert set(shown["op"]) <= set(partial.rows)
        assert shown["bytes"].sum() == pytest.approx(partial.dram_bytes, abs=3 * len(partial.workload))


def test_dram_is_never_faster_than_it_is(result, frame):
    """No more is moved within any stretch of time than DRAM can; the curve has all bytes."""
    moved = frame[frame["bytes"] > 0]
    edges, rate = timeline.bandwidth(moved, 300)
    assert (rate * np.diff(edges)).sum() == pytest.approx(moved["bytes"].sum())
    dram = result.arch.memories.dram
    per_cycle = dram.bandwidth * dram.efficiency / result.arch.clock
    start, end, size = (moved[x].to_numpy() for x in ("start_cycle", "end_cycle", "bytes"))
    for first, last in np.sort(np.random.default_rng(0).choice(end, (500, 2)), axis=1):
        assert size[(start >= first) & (end <= last)].sum() <= (last - first) * per_cycle


def test_a_long_timeline_is_summarised(result):
    """Fewer rows than spans: stretches that repeat are a row, and it says that it is not complete."""
    short = result.timeline(limit=1500)
    assert len(short) <= 1500
    assert not short.attrs["complete"]
    assert "repeated" in set(short["phase"])
    assert short.attrs["ends_early"] == (short["end_cycle"].max() < result.cycles)
    assert png(timeline.plot_timeline(result, short))[:4] == b"\x89PNG"


def test_the_trace_has_a_track_per_unit_and_counters(result, frame):
    raw = timeline.trace(result, frame)
    assert raw == timeline.trace(result, frame)
    events = json.loads(gzip.decompress(raw))["traceEvents"]
    names = {e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert names == set(frame["unit"])
    spans = [e for e in events if e["ph"] == "X"]
    assert len(spans) == len(frame)
    assert max(e["ts"] + e["dur"] for e in spans) == pytest.approx(1e6 * result.latency_s)
    counters = {e["name"] for e in events if e["ph"] == "C"}
    assert {"DRAM bandwidth", "array buffers", "power"} <= counters
    watts = [e["args"] for e in events if e["name"] == "power"]
    assert watts[0].keys() == {f"{name} [W]" for name in ("static", "array", "vector", "SORE", "WUVE", "DRAM")}
    mean = np.mean([sum(values.values()) for values in watts])
    assert mean == pytest.approx(result.energy_j / result.latency_s, rel=1e-5)
    held = max(e["args"]["bytes"] for e in events if e["name"] == "array buffers")
    memories = result.arch.memories
    assert 0 < held <= memories.a_buffer + memories.b_buffer


def test_the_chart_has_a_row_per_unit(result, frame):
    figure = timeline.plot_timeline(result, frame)
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == timeline.tracks(frame)
    assert figure.axes[1].get_ylabel() == "DRAM\n[GB/s]"
    assert png(figure)[:4] == b"\x89PNG"


def test_only_the_event_engine_has_one():
    with pytest.raises(UnsupportedError, match="event engine"):
        nmsim.simulate("sat_vcu1525", nmsim.gemm(8, 8, 8)).timeline()
