"""Schedules: replayed they change nothing, edited they count as edited, and what does not fit is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import nmsim
from nmsim.arch.schema import SystolicArch
from nmsim.errors import SpecError, UnsupportedError
from nmsim.results.result import Result
from nmsim.workloads.optable import Workload

BUFFERS = {"memories.a_buffer": "16 KiB", "memories.b_buffer": "16 KiB", "memories.c_buffer": "32 KiB"}


def same(one: Result, other: Result) -> bool:
    return one.columns.keys() == other.columns.keys() and all(
        np.array_equal(one.columns[name], other.columns[name]) for name in one.columns
    )


WORKLOADS = {
    "training step": lambda: nmsim.load_workload("resnet18_64_s7", batch=8).training("bdwp", "2:8"),
    "attention": lambda: nmsim.load_workload("vit_cifar", batch=4).training("sdgp", "2:4"),
    "phases": lambda: nmsim.load_workload("resnet9", batch=4).training("mask_decay", "2:8", steps=100),
    "products": lambda: nmsim.gemms({"m": [5, 700, 64], "n": [33, 64, 900], "k": [64, 100, 8], "pattern": ["2:8"] * 3}),
}


@pytest.mark.parametrize("machine", ["sat_vcu1525", "systolic_128x128", "example_annotated", "systolic_32x32"])
@pytest.mark.parametrize("name", WORKLOADS)
def test_an_unedited_schedule_changes_nothing(machine: str, name: str, tmp_path: Path):
    """From memory and from its file, bit for bit, for every product, plan columns included."""
    arch, work = nmsim.load_arch(machine), WORKLOADS[name]()
    schedule = nmsim.make_schedule(arch, work)
    file = tmp_path / "schedule.yaml"
    schedule.save(file)
    searched = nmsim.simulate(arch, work)
    assert same(searched, nmsim.simulate(arch, work, schedule=schedule))
    assert same(searched, nmsim.simulate(arch, work, schedule=file))
    assert nmsim.load_schedule(file).text() == schedule.text()


def test_phases_that_run_the_same_product_share_an_entry():
    """Two entries for a layer that is dense first and 2:8 later, one for a layer that stays dense throughout."""
    work = nmsim.load_workload("resnet9", batch=4).training("mask_decay", "2:8", steps=100)
    schedule = nmsim.make_schedule(nmsim.load_arch("sat_vcu1525"), work)
    runs = {
        layer: [c.runs for c in schedule.ops if (c.layer, c.stage) == (layer, "FF")] for layer in ("conv1", "conv3")
    }
    assert runs["conv1"] == ["dense"]
    assert runs["conv3"] == ["dense", "B 2:8"]


def square() -> tuple[SystolicArch, Workload]:
    """256 x 256 x 256 in fp16 on a 32 x 32 array with half of 16 KiB for A and B, of 32 KiB for sums."""
    return nmsim.load_arch("sat_vcu1525", overrides=BUFFERS), nmsim.gemm(256, 256, 256)


def edited(tmp_path: Path, **fields: str) -> Path:
    """The schedule of `square` with fields of its only entry as in the file written out."""
    file = tmp_path / "edited.yaml"
    values = {
        "layer": "gemm", "stage": "FF", "product": "[256, 256, 256]", "runs": "dense", "dataflow": "os",
        "tile": "[64, 64]", "order": "mn", "resident": "[]", "interleave": "[1, 1]", **fields,
    }  # fmt: skip
    line = ", ".join(f"{name}: {value}" for name, value in values.items())
    file.write_text(f"kind: schedule\nmachine: sat_vcu1525\nops:\n  - {{{line}}}\n")
    return file


def test_what_the_file_says_is_what_runs(tmp_path: Path):
    """64 x 64 tiles with nothing resident read A and B four times, 4 * 131072 B; a stripe of 8 rows of A would fit;
    tiles of 32 x 64 read A four times still, and B eight times. Output stationary without interleaving waits for the
    adder: 64 folds of 256 steps, 4 cycles each, and 62 to fill."""
    arch, work = square()
    result = nmsim.simulate(arch, work, schedule=edited(tmp_path))
    assert result.columns["dram.a"][0] == result.columns["dram.b"][0] == 4 * 131072
    assert result.cycles == 64 * 256 * 4 + 62
    flat = nmsim.simulate(arch, work, schedule=edited(tmp_path, tile="[32, 64]"))
    assert (flat.columns["dram.a"][0], flat.columns["dram.b"][0]) == (4 * 131072, 8 * 131072)
    assert nmsim.simulate(arch, work).cycles < result.cycles


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"layer": "gem"}, ["ops[0].layer: unknown layer with products 'gem'; did you mean gemm", "no entry for gemm"]),
        ({"stage": "WU"}, ["ops[0].stage: gemm has no product in WU; it has them in FF"]),
        ({"part": "2"}, ["ops[0].part: gemm FF has parts 1 to 1"]),
        ({"product": "[256, 256, 64]"}, ["gemm FF: it is 256 x 256 x 256 in the workload, not 256 x 256 x 64"]),
        ({"runs": '"B 2:8"'}, ["on sat_vcu1525 it can run dense, not 'B 2:8'"]),
        ({"dataflow": "is"}, ["ops[0].dataflow: gemm FF: sat_vcu1525 has os, ws, not is"]),
        ({"dataflow": "ws", "interleave": "[4, 1]"}, ["only os takes outputs in turn"]),
        ({"interleave": "[8, 1]"}, ["8 outputs in turn; the units of sat_vcu1525 take 4"]),
        ({"tile": "[48, 64]"}, ["48 x 64 is not made of whole arrays of 32 x 32 outputs; 64 x 64 is"]),
        (
            {"tile": "[64, 128]"},
            ["64 x 128 sums of 4 B are 32,768 B, half of memories.c_buffer holds 16,384 B; 64 x 64 would fit"],
        ),
        (
            {"tile": "[256, 64]"},
            ["256 x 64 sums of 4 B are 65,536 B, half of memories.c_buffer holds 16,384 B; 128 x 32 would fit"],
        ),
        (
            {"resident": "[A]"},
            ["A: a stripe of 64 rows is 32,768 B, half of memories.a_buffer holds 8,192 B; 16 rows would fit"],
        ),
        (
            {"resident": "[B]"},
            ["B: all of its 256 columns is 131,072 B, half of memories.b_buffer holds 8,192 B; 16 columns in stripes"],
        ),
    ],
    ids=lambda x: "-".join(x) if isinstance(x, dict) else "",
)  # fmt: skip
def test_what_does_not_fit_is_refused(tmp_path: Path, fields: dict[str, str], words: list[str]):
    """With file, line and column; 4-byte sums; a row of A is 512 B, of which half a buffer of 16 KiB holds 16."""
    arch, work = square()
    with pytest.raises(SpecError) as caught:
        nmsim.simulate(arch, work, schedule=edited(tmp_path, **fields))
    message = str(caught.value)
    assert all(text in message for text in words), message
    assert f"{tmp_path / 'edited.yaml'}:4:" in message


def test_a_schedule_for_another_machine_is_refused(tmp_path: Path):
    work = nmsim.gemm(256, 256, 256)
    with pytest.raises(SpecError, match=r":2:\d+: machine: made for sat_vcu1525, not for systolic_32x32"):
        nmsim.simulate("systolic_32x32", work, schedule=edited(tmp_path))
    with pytest.raises(UnsupportedError, match="a tensor_core machine; schedules choose among the dataflows"):
        nmsim.make_schedule("a100_sxm4_80gb", work)


def test_a_schedule_for_another_batch_is_not_a_screenful():
    """Sizes differ in every one of some 60 lines: ten are shown, and how many there are."""
    model = nmsim.load_workload("resnet18_64_s7", batch=8)
    schedule = nmsim.make_schedule(nmsim.load_arch("sat_vcu1525"), model.training("bdwp", "2:8"))
    other = nmsim.load_workload("resnet18_64_s7", batch=16).training("bdwp", "2:8")
    with pytest.raises(SpecError, match=f"{len(schedule.ops)} mistakes, of which 10 are shown") as caught:
        nmsim.simulate("sat_vcu1525", other, schedule=schedule)
    assert len(caught.value.problems) == 11


def test_every_product_has_one_entry(tmp_path: Path):
    arch, work = square()
    file = edited(tmp_path)
    file.write_text(file.read_text() + file.read_text().splitlines()[-1] + "\n")
    with pytest.raises(SpecError, match=r":5:\d+: ops\[1\]\.layer: gemm FF has an entry already, ops\[0\]"):
        nmsim.simulate(arch, work, schedule=file)


def test_a_machine_that_does_not_schedule_cannot_follow():
    """Made with both dataflows at hand, replayed where the first is fixed."""
    work = nmsim.load_workload("vit_cifar", batch=8).training("bdwp", "2:8")
    schedule = nmsim.make_schedule(nmsim.load_arch("sat_vcu1525"), work)
    fixed = nmsim.load_arch("sat_vcu1525", overrides={"array.scheduling": "fixed"})
    assert {c.dataflow for c in schedule.ops} == {"os", "ws"}
    with pytest.raises(SpecError, match=r"has os \(array\.scheduling: fixed\), not ws"):
        nmsim.simulate(fixed, work, schedule=schedule)
    assert {c.dataflow for c in nmsim.make_schedule(fixed, work).ops} == {"os"}


def test_a_choice_never_loses():
    """Chosen per product, none is slower than with one dataflow for all, dense and sparse, of every shape."""
    rng = np.random.default_rng(3)
    m, n, k = (np.round(2 ** rng.uniform(0, 12, 200)).astype(int) for _ in range(3))
    work = nmsim.gemms({"m": m, "n": n, "k": k, "pattern": ["dense", "2:8", "1:4", "2:4"] * 50})
    chosen = nmsim.simulate("sat_vcu1525", work).per_op("cycles")
    dataflows = set()
    for first, other in (("os", "ws"), ("ws", "os")):
        changes = {"array.scheduling": "fixed", "array.dataflows": [first, other]}
        fixed = nmsim.simulate(nmsim.load_arch("sat_vcu1525", overrides=changes), work).per_op("cycles")
        assert (chosen <= fixed).all()
        dataflows.add(bool((chosen < fixed).any()))
    assert dataflows == {True}


def test_zeros_that_stream_past_single_values_cannot_be_skipped():
    """A 2:8 in A with WS on units that hold single values: `os` skips it, `ws` cannot."""
    arch = nmsim.load_arch("sat_vcu1525", overrides={"array.stationary": "value"})
    work = nmsim.gemm(256, 256, 256, pattern="2:8", operand="A")
    schedule = nmsim.make_schedule(arch, work)
    moved = schedule.document.with_data(
        {**schedule.document.data, "ops": [{**dict(schedule.ops[0]), "dataflow": "ws", "interleave": [1, 1]}]}
    )
    from nmsim.engines.schedule import from_document

    with pytest.raises(SpecError, match="with ws operand A streams, whose zeros this array cannot skip"):
        nmsim.simulate(arch, work, schedule=from_document(moved))
