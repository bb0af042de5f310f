"""`nmsim why`: the ratio of two simulations, where the gain goes, break-even sizes."""

from __future__ import annotations

import csv
import json

import pytest

import nmsim

WORDS = ("why", "a100_sxm4_80gb", "--shape", "1024,2048,4096", "--pattern", "2:4")


def test_the_speed_up_is_the_ratio_of_two_simulations(nmsim_):
    data = json.loads(nmsim_(*WORDS, "--json").out)
    dense, sparse = (
        nmsim.simulate("a100_sxm4_80gb", nmsim.gemm(1024, 2048, 4096, pattern)) for pattern in ("dense", "2:4")
    )
    assert data["speedup"] == pytest.approx(sparse.speedup_over(dense))
    assert data["dense_s"] == pytest.approx(dense.latency_s)
    assert sum(c["sparse_s"] for c in data["causes"]) == pytest.approx(sparse.latency_s)
    assert sum(c["lost_s"] for c in data["causes"]) == pytest.approx(sparse.latency_s - dense.latency_s / 2)
    assert {(t["dimension"], t["above"]) for t in data["break_even"]} == {
        (name, level) for name in ("m", "n", "k", "m = n = k") for level in (1.1, 1.5)
    }


def test_break_even_sizes_hold(nmsim_):
    for found in json.loads(nmsim_(*WORDS, "--json").out)["break_even"]:
        if found["first"]:
            shape = dict(zip("mnk", (1024, 2048, 4096), strict=True))
            shape = {name: found["first"] if name in found["dimension"] else size for name, size in shape.items()}
            dense, sparse = (
                nmsim.simulate("a100_sxm4_80gb", nmsim.gemm(**shape, pattern=pattern)) for pattern in ("dense", "2:4")
            )
            assert sparse.speedup_over(dense) > found["above"]


def test_text_and_csv(nmsim_):
    outcome = nmsim_(*WORDS)
    assert outcome.code == 0
    assert max(map(len, outcome.out.splitlines())) <= 100
    for part in ("of an ideal 2.00x", "useful", "launch", "Sizes at which"):
        assert part in outcome.out
    rows = list(csv.DictReader(nmsim_(*WORDS, "--csv").out.splitlines()))
    assert {"cause", "dense_s", "sparse_s", "lost_s"} == set(rows[0])


def test_a_machine_that_skips_nothing_says_why(nmsim_):
    out = nmsim_("why", "v100_sxm2", "--shape", "512,512,512", "--pattern", "2:4").out
    assert "1.00x of an ideal 2.00x" in out
    assert "The zeros are not skipped: v100_sxm2 has no mode for 2:4" in out


def test_a_type_that_the_machine_widens_is_told(nmsim_):
    out = nmsim_("why", "mi210", "--shape", "512,512,512", "--pattern", "2:4", "--dtype", "fp8").out
    assert "runs in fp16, since mi210 does not multiply fp8" in " ".join(out.split())
    assert max(map(len, out.splitlines())) <= 100
    assert "runs in" not in nmsim_(*WORDS).out


def test_overrides_reach_the_machine(nmsim_):
    slow = json.loads(nmsim_(*WORDS, "--set", "memories.dram.bandwidth=1 GB/s", "--json").out)
    assert slow["dense_s"] > 10 * json.loads(nmsim_(*WORDS, "--json").out)["dense_s"]


def test_files_are_written(nmsim_, tmp_path):
    assert nmsim_(*WORDS, "-o", tmp_path).code == 0
    assert (tmp_path / "speedup.png").read_bytes().startswith(b"\x89PNG")
    rows = list(csv.DictReader((tmp_path / "speedups.csv").read_text().splitlines()))
    row = next(r for r in rows if (r["m"], r["n"], r["k"]) == ("1024", "2048", "4096"))
    assert float(row["speedup"]) == pytest.approx(json.loads((tmp_path / "why.json").read_text())["speedup"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("why", "a100_sxm4_80gb", "--shape", "1,2", "--pattern", "2:4"), "must be three sizes"),
        (("why", "a100_sxm4_80gb", "--shape", "1,2,0", "--pattern", "2:4"), "must be a whole number"),
        ((*WORDS[:-1], "4:2"), "not a pattern"),
        ((*WORDS[:-1], "dense"), "the pattern must be n:m"),
        ((*WORDS, "--dtype", "fp61"), "nmsim: unknown dtype"),
        ((*WORDS[:3], "1000000000,100000000,1", *WORDS[4:]), "1000000000 x 100000000 x 48, which is tried"),
        (("why", "a100", *WORDS[2:]), "unknown architecture"),
        (("why", "a100_sxm4_80gb"), "required"),
    ],
)
def test_bad_input_is_refused(refused, words, message):
    assert message in refused(*words)
