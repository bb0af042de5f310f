"""Tables of measurements: what is read, and every mistake told with file and line."""

from __future__ import annotations

import numpy as np
import pytest

from nmsim.errors import SpecError
from nmsim.validation import conv, gemm, layers, models, vectors
from nmsim.validation.points import LeftOut, data_type, set_name
from nmsim.validation.tables import read_table

GEMM = {"device": "A100", "dtype": "fp16", "M": 64, "N": 32, "K": 16, "pattern": "dense", "time_us": 10}


def read(text, tmp_path, required=("a", "b")):
    (tmp_path / "t.csv").write_text(text)
    return read_table(tmp_path / "t.csv", required)


def test_cells_and_lines(tmp_path):
    table = read('a,b\n1,x\n\n2,"y\nz"\n', tmp_path)
    assert table.lines.tolist() == [2, 5]
    assert table.numbers("a").tolist() == [1.0, 2.0]
    assert table.words("b").tolist() == ["x", "y\nz"]
    assert table.words("c").tolist() == ["", ""]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("a,B\n1,2\n", "t.csv:1:1: the column 'b' is missing; is it 'B'?"),
        ("a,b,a\n1,2,3\n", "the column 'a' stands twice"),
        ("a,b\n1,2\n1,2,3\n", "t.csv:3:1: 3 cells, but the header has 2"),
        ('a,b\n1,"2\n', "unexpected end of data"),
    ],
)
def test_bad_files_are_refused(tmp_path, text, message):
    with pytest.raises(SpecError, match=r"t\.csv") as error:
        read(text, tmp_path)
    assert message in str(error.value)


@pytest.mark.parametrize("value", ["", "fast", "-1", "0", "nan", "inf", "1_0"])
def test_bad_numbers_are_refused(tmp_path, value):
    table = read(f"a,b\n1,2\n{value},3\n", tmp_path)
    with pytest.raises(SpecError) as error:
        table.numbers("a")
    assert f"t.csv:3:1: a: must be a positive number, not {value!r}" in str(error.value)


@pytest.mark.parametrize("value", ["", "1.5", "0", "1e30"])
def test_bad_sizes_are_refused(tmp_path, value):
    with pytest.raises(SpecError, match=r"t\.csv:2:1: a: must be a whole number of at least 1"):
        read(f"a,b\n{value},3\n", tmp_path).wholes("a")


def found(write, reader, columns, *rows):
    folder = write("t.csv", rows)
    return list(reader(read_table(folder / "t.csv", columns)))


def products(write, **changes):
    return found(write, gemm.points, gemm.COLUMNS, GEMM | changes)


def test_a_product_is_a_point(write):
    (points,) = products(write, pattern="2:4", sparse_operand="A (weight)", batch=3, source_key="own")
    assert (points.name, points.dtype, points.table) == ("own_a100_fp16_2:4", "fp16", "gemm")
    assert points.measured_s.tolist() == pytest.approx([10e-6])
    work = points.work
    assert [int(work[c][0]) for c in ("m", "n", "k", "count")] == [64, 32, 16, 3]
    assert (work.names("a_pattern")[0], work.names("b_pattern")[0], work.names("a_axis")[0]) == ("2:4", "dense", "k")


def test_what_is_in_no_error_figure(write):
    for changes, reason in (
        ({"quality": "C"}, "read off a figure (quality C)"), ({"time_us": ""}, "no time_us"),
        ({"dtype": "int4w_fp16a"}, "no data type 'int4w_fp16a'"),
    ):  # fmt: skip
        (left,) = products(write, **changes)
        assert isinstance(left, LeftOut)
        assert (left.reason, left.rows) == (reason, 1)


def test_a_stated_dense_time_is_a_reference(write):
    points, reference = products(write, pattern="V8:2:8", sparse_operand="A", dense_ref_time_us=20)
    assert points.work.names("a_pattern")[0] == "8:2:8"
    assert reference.of == points.name
    assert reference.measured_s[0] == pytest.approx(20e-6)
    assert reference.work.names("a_pattern")[0] == "dense"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"M": "0"}, "t.csv:2:1: M: must be a whole number"),
        ({"pattern": "4:2"}, "t.csv:2:1: pattern: not a pattern: 4:2"),
        ({"pattern": "2:4", "sparse_operand": "C"}, "t.csv:2:1: sparse_operand: must begin with A or B"),
        ({"time_us": "ten"}, "t.csv:2:1: time_us: must be a positive number"),
        ({"batch": "0"}, "t.csv:2:1: batch: must be a whole number"),
        ({"M": 2**40, "N": 2**40}, "t.csv:2:1: M: 1.93e+25 multiply-accumulates overflow"),
    ],
)
def test_bad_products_are_refused(write, changes, message):
    with pytest.raises(SpecError) as error:
        products(write, **changes)
    assert message in str(error.value)


CONV = {
    "device": "T4", "dtype": "fp16", "N": 2, "C": 3, "H": 8, "W": 6, "K_filters": 4, "R": 3, "S": 3, "pad_h": 1,
    "pad_w": 1, "stride_h": 2, "stride_w": 2, "fwd_us": 5, "bwd_input_us": "", "bwd_weight_us": 7,
    "fwd_algorithm": "WINOGRAD",
}  # fmt: skip


def test_a_convolution_by_hand(write):
    """Outputs (8 + 2 - 3)//2 + 1 = 4 by (6 + 2 - 3)//2 + 1 = 3: 24 positions; 27 inputs and 4 outputs each."""
    ff, missing, wu = found(write, conv.points, conv.COLUMNS, CONV)
    assert (ff.name, wu.name) == ("table_t4_fp16_conv_ff_winograd", "table_t4_fp16_conv_wu")
    assert [int(ff.work[c][0]) for c in "mnk"] == [24, 4, 27]
    assert [int(wu.work[c][0]) for c in "mnk"] == [27, 4, 24]
    assert int(ff.work["a_elements"][0]) == 2 * 3 * 8 * 6
    assert (missing.reason, missing.rows) == ("no bwd_input_us", 1)
    assert wu.measured_s[0] == pytest.approx(7e-6)


def test_a_kernel_larger_than_its_input_is_refused(write):
    with pytest.raises(SpecError, match=r"t\.csv:2:1: H: .* does not fit"):
        found(write, conv.points, conv.COLUMNS, CONV | {"H": 1, "pad_h": 0})


def test_vector_operations(write):
    row = {"device": "T4", "dtype": "fp32", "op": "ln", "rows": 4, "cols": 8, "time_us": 3}
    points, left = found(write, vectors.points, vectors.COLUMNS, row, row | {"op": "sort"})
    assert points.name == "table_t4_fp32_layernorm"
    assert [int(points.work[f"{x}_elements"][0]) for x in "abc"] == [32, 0, 32]
    assert left.reason == "no operation 'sort'"


def test_networks(write):
    row = {"device": "T4", "model": "gpt2", "mode": "train", "seq": 64, "batch": 2, "variant": "", "e2e_ms": 9}
    rows = [row, row | {"mode": "inf"}, row | {"model": "gpt9"}, row | {"variant": "dp4"}]
    unknown, variant, train, inference = found(write, models.points, models.COLUMNS, *rows)
    assert (unknown.reason, variant.reason) == ("no workload 'gpt9'", "variant 'dp4' of a network")
    assert {"FF", "BP", "WU", "VECTOR"} == set(train.work.names("stage"))
    assert {"FF", "VECTOR"} == set(inference.work.names("stage"))
    assert train.work.names("a_dtype")[0] == "fp32"
    with pytest.raises(SpecError, match=r"mode: must be one of inf, train"):
        found(write, models.points, models.COLUMNS, row | {"mode": "test"})


LINEAR = {
    "device": "A100", "dtype": "fp16", "what": "linear", "phase": "fwd+bwd", "shape": "64x32x16",
    "pattern": "2:4 weights (runtime)", "value": 2, "unit": "ms",
}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"unit": "furlongs"}, "unit 'furlongs' of a linear is none of us, ms, s"),
        ({"phase": "bwd"}, "phase 'bwd' of a linear is neither fwd nor fwd+bwd"),
        ({"shape": "64x32"}, "shape '64x32' of a linear is not 3 sizes with x between them"),
        ({"pattern": "3:5"}, "no rule for the pattern '3:5' of a linear"),
    ],
)
def test_a_layer_that_is_left_out_says_which_column_is_why(write, changed: dict[str, str], reason: str):
    (left,) = found(write, layers.points, layers.COLUMNS, LINEAR | changed)
    assert left.reason == reason


def test_layers(write):
    points, left = reversed(found(write, layers.points, layers.COLUMNS, LINEAR, LINEAR | {"what": "clone"}))
    assert left.reason == "no rule for 'clone'"
    sizes = np.stack([points.work[c] for c in "mnk"], axis=1)
    assert sizes.tolist() == [[64, 16, 32], [64, 32, 16], [32, 16, 64]]
    assert points.work.names("b_pattern").tolist() == ["2:4", "2:4", "dense"]
    assert points.measured_s[0] == pytest.approx(2e-3)


def test_names_and_types():
    assert set_name("torchao_h100", "H100", "fp16", "dense") == "torchao_h100_fp16_dense"
    assert set_name("x", "Tesla V100-PCIE-32GB", "fp32") == "x_v100_pcie_32gb_fp32"
    assert set_name("x", "MI210 (gfx90a 104CU)") == "x_mi210"
    assert [data_type(t) for t in ("fp8_e4m3", "fp16/bf16", "bf16/fp16 (not stated)", "int4w", "")] == [
        "fp8", "fp16", "bf16", "", "",
    ]  # fmt: skip


def test_attention_that_is_not_fused(write):
    """Beside each of 24 softmax two kernels, scale and mask; each reads and writes all 16 x 512 x 512 scores."""
    row = {
        "device": "T4",
        "model": "bert_large",
        "mode": "inf",
        "seq": 512,
        "batch": 1,
        "e2e_ms": 1,
        "source": "a test",
    }
    folder = write("networks.csv", [row])
    (found,) = models.points(read_table(folder / "networks.csv", models.COLUMNS))
    softmax = found.work.is_kind("softmax")
    assert softmax.sum() * found.work["repeat"][softmax][0] == 24
    rows = found.work.is_kind("scale_mask")
    assert rows.sum() == 2 * softmax.sum()
    assert set(found.work["a_elements"][rows]) == set(found.work["c_elements"][rows]) == {16 * 512 * 512}
    assert not found.work["b_elements"][rows].any()
    assert not found.work.is_kind("dropout", "dropout_backward").any()
