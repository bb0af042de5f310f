"""`nmsim sweep` and its analyses on the command line."""

from __future__ import annotations

import json

import pytest

from nmsim.sweeps.rows import load

SPACE = """
kind: space
name: few
fixed: {arch: sat_vcu1525, n: 64, k: 256}
axes:
  pattern: ["2:4", dense]
  m: {from: 64, to: 256, steps: 4}
  arch.energy.static: [1 W, 20 W]
baseline: {pattern: dense, m: 256}
"""


@pytest.fixture
def space(tmp_path):
    file = tmp_path / "few.yaml"
    file.write_text(SPACE)
    return file


@pytest.fixture
def rows(nmsim_, space, tmp_path):
    file = tmp_path / "rows.npz"
    outcome = nmsim_("sweep", space, "-o", file)
    assert (outcome.code, outcome.out) == (0, "")
    assert "16 rows, 0 failed" in outcome.err
    return file


def test_rows_are_written_and_nothing_else_stays(rows, tmp_path):
    assert len(load(rows)) == 16
    assert sorted(path.name for path in tmp_path.iterdir()) == ["few.yaml", "rows.npz"]


def test_without_a_file_the_first_rows_are_printed(nmsim_, space):
    outcome = nmsim_("sweep", space)
    assert outcome.code == 0
    assert outcome.out.splitlines()[0].split()[:2] == ["point", "arch"]


def test_shards_are_merged(nmsim_, space, rows, tmp_path):
    for i in (1, 2):
        assert nmsim_("sweep", space, "--chunk", 5, "--shard", f"{i}/2", "-o", tmp_path / f"{i}.npz").code == 0
    assert nmsim_("sweep", "merge", tmp_path / "2.npz", tmp_path / "1.npz", "-o", tmp_path / "both.npz").code == 0
    assert load(tmp_path / "both.npz").equals(load(rows))


def test_the_front_of_latency_and_energy_is_the_smallest_sparse_product_with_little_static_power(nmsim_, rows):
    """m = 64 at 2:4 and 1 W is best in both."""
    outcome = nmsim_("sweep", "pareto", rows, "--minimize", "latency_s,energy_j", "--json")
    (best,) = json.loads(outcome.out)
    assert (best["pattern"], best["m"], best["arch.energy.static"], best["knee"]) == ("2:4", 64, 1.0, True)
    assert "1 of 16 rows" in outcome.err


def test_work_against_time_is_a_trade_off(nmsim_, rows):
    outcome = nmsim_("sweep", "pareto", rows, "--minimize", "latency_s", "--maximize", "macs_executed", "--json")
    assert len(json.loads(outcome.out)) > 1


def test_static_power_has_no_share_in_latency(nmsim_, rows):
    table = json.loads(nmsim_("sweep", "sensitivity", rows, "--metric", "latency_s", "--json").out)
    shares = {row["axis"]: row["share"] for row in table}
    assert shares["arch.energy.static"] == pytest.approx(0, abs=1e-12)
    assert shares["m"] > shares["pattern"] > 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("sweep", "sat_bdw"), "did you mean sat_bdwp"),
        (("sweep", "merge"), "needs a file of rows"),
        (("sweep", "pareto", "ROWS"), "needs objectives"),
        (("sweep", "pareto", "ROWS", "--minimize", "latency"), "did you mean latency_s"),
        (("sweep", "SPACE", "-o", "rows.txt"), "ends in .parquet, .npz, .csv"),
        (("sweep", "SPACE", "--shard", "3/2"), "is not I/N"),
        (("sweep", "SPACE", "--shard", "2/2"), "shard 2/2 has no points: all 16 are in 1 chunk of at most"),
        (("sweep", "SPACE", "--limit", "15"), "16 points, more than 15"),
        (("sweep", "paretto", "ROWS"), "did you mean pareto"),
    ],
)
def test_what_cannot_be_done_is_told(refused, space, rows, words, message):
    names = {"ROWS": rows, "SPACE": space}
    assert message in refused(*(names.get(word, word) for word in words))


def test_a_place_that_cannot_be_written_is_named_before_anything_runs(refused, space, tmp_path):
    (tmp_path / "file").write_text("")
    assert "file" in refused("sweep", space, "-o", tmp_path / "file" / "rows.npz")


def test_check_and_schema_know_spaces(nmsim_, space):
    assert "ok (space of 16 points" in nmsim_("check", space).out
    assert json.loads(nmsim_("schema", "space").out)["title"] == "nmsim space"
