"""Saved results: read back as they were, refused when they are not whole, written all or not at all."""

from __future__ import annotations

import json
import math

import pytest

import nmsim
from nmsim.errors import NmsimError, SpecError
from nmsim.results import io
from nmsim.results.metrics import METRICS
from nmsim.results.result import BREAKDOWNS


@pytest.fixture(scope="module")
def result():
    work = nmsim.load_workload("resnet9", batch=4).training("bdwp", "2:8")
    return nmsim.simulate("sat_vcu1525", work)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_saved_result_reads_back_as_it_was(result, tmp_path):
    io.save(result, tmp_path / "new" / "dir")
    loaded = io.load(tmp_path / "new" / "dir")
    assert loaded == io.load(tmp_path / "new" / "dir" / io.RESULT_FILE)
    assert loaded.metrics == {name: pytest.approx(result.metric(name), rel=1e-12, nan_ok=True) for name in METRICS}
    assert set(loaded.breakdowns) == set(BREAKDOWNS)
    assert loaded.arch == "sat_vcu1525"
    assert loaded.info["recipe"] == "bdwp"
    assert loaded.assumptions == result.assumptions
    assert names(tmp_path / "new" / "dir") == ["ops.csv", "result.json"]


def test_the_parts_sum_to_the_totals(result):
    saved = io.SavedResult.of(result)
    totals = {"stage": "latency_s", "layer": "latency_s", "cause": "latency_s", "component": "energy_j"}
    for by, metric in {**totals, "operand": "dram_bytes"}.items():
        assert sum(saved.breakdowns[by].values()) == pytest.approx(saved.metrics[metric], rel=1e-9), by


def test_a_figure_that_is_not_known_is_null_in_the_file_and_nan_when_read(result, tmp_path):
    """JSON has no NaN: a reader in another language must be able to parse the file."""
    data = io.to_dict(result)
    data["metrics"]["energy_j"] = math.nan
    (tmp_path / "r.json").write_text(io.dump(data))
    assert '"energy_j": null' in (tmp_path / "r.json").read_text()
    assert math.isnan(io.load(tmp_path / "r.json").metrics["energy_j"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "not a result of nmsim"),
        ({"schema": io.SCHEMA + 1, "nmsim": "9.9"}, "written by a newer nmsim (9.9)"),
        ({"schema": None}, "schema is None"),
        ({"metrics": 3}, "'metrics' is missing or not what it should be"),
        ({"metrics": {}}, "the metric 'cycles' is missing"),
        ({"breakdowns": {}}, "the breakdown by stage is missing"),
        ({"breakdowns": {"stage": 1}}, "a breakdown is not a table"),
        ({"metrics": dict.fromkeys(METRICS, "fast")}, "expected a number of at least 0, got 'fast'"),
        ({"metrics": dict.fromkeys(METRICS, True)}, "expected a number of at least 0, got True"),
        ({"metrics": dict.fromkeys(METRICS, -1)}, "expected a number of at least 0, got -1"),
    ],
)
def test_foreign_newer_and_damaged_files_are_refused(result, tmp_path, change, message):
    file = tmp_path / "r.json"
    file.write_text(json.dumps({**io.to_dict(result), **change}))
    with pytest.raises(SpecError) as error:
        io.load(file)
    assert message in str(error.value)
    assert str(file) in str(error.value)


@pytest.mark.parametrize(
    "raw", [b"", b"  \n", b"[1, 2", b"\xff\x00\x01", b"[" * 100_000, b"9" * 10_000, b"null", b"NaN"]
)
def test_what_is_no_json_object_is_refused(tmp_path, raw):
    (tmp_path / "r.json").write_bytes(raw)
    with pytest.raises(SpecError):
        io.load(tmp_path / "r.json")


def test_a_cut_off_file_is_refused_with_its_place(result, tmp_path):
    text = io.dump(io.to_dict(result))
    (tmp_path / "r.json").write_text(text[: len(text) // 2])
    with pytest.raises(SpecError, match="cut off"):
        io.load(tmp_path / "r.json")


@pytest.mark.parametrize("missing", ["nowhere", ".", "a\0b"])
def test_what_cannot_be_opened_is_refused(tmp_path, missing):
    with pytest.raises(SpecError, match="cannot be read"):
        io.load(tmp_path / missing)


def test_a_failed_write_leaves_what_was_there(tmp_path):
    """The second file cannot replace a directory; neither a temporary file nor a new folder stays."""
    target = tmp_path / "file"
    io.atomic_write(target, "old")
    with pytest.raises(AttributeError):
        io.atomic_write(target, None)
    assert target.read_text() == "old"
    with pytest.raises(AttributeError):
        io.write_files(tmp_path / "new" / "dir", {"a": b"1", "b": None})
    assert names(tmp_path) == ["file"]


def test_a_file_in_place_of_the_directory_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    for directory in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(NmsimError, match="is a file, not a directory"):
            io.write_files(directory, {"a": b"1"})
    assert (tmp_path / "file").read_text() == "mine"
