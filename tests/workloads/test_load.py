"""Loading workloads: the library, files and their mistakes, tables of products."""

import json
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from nmsim.errors import PatternError, ShapeError, SpecError, UnsupportedError
from nmsim.library import find, library_dir, names
from nmsim.workloads.load import load_workload
from nmsim.workloads.products import CellError, gemm, gemms

HEAD = "kind: workload\nname: net\nsource: test\n"
CLEAN = HEAD + "layers:\n  - {type: linear, name: a, in: 4, out: 6, tokens: sample}\n"
SPEECH = (
    HEAD
    + """
sequence: {frames: {length: 30, fixed: true}, text: {length: 5}, extra: {length: 6}}
layers:
  - {type: linear, name: a, in: 4, out: 4, tokens: frames}
  - {type: linear, name: b, in: 4, out: 4, tokens: text}
  - {type: linear, name: c, in: 4, out: 4, tokens: extra}
"""
)


@pytest.fixture
def write(tmp_path):
    def write(text, name="net.yaml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def problems(path) -> list[tuple[int, str]]:
    with pytest.raises(SpecError) as caught:
        load_workload(path)
    return [(problem.line, problem.message) for problem in caught.value.problems]


@pytest.mark.parametrize("name", names("workloads"))
def test_every_library_model_loads_and_trains(name):
    work = load_workload(name, batch=2)
    assert work.macs_dense > 0
    assert work.require_model().parameters > 0
    step = work.training("bdwp", "2:8")
    assert set(step.to_frame()["stage"]) == {"FF", "BP", "WU", "PRUNE", "UPDATE", "VECTOR"}


def test_unknown_names():
    assert find("workloads", names("workloads")[0]).parent == library_dir("workloads")
    with pytest.raises(UnsupportedError, match="unknown workload 'resnt50'; did you mean"):
        load_workload("resnt50")
    with pytest.raises(UnsupportedError, match="unknown kind of file 'workload'"):
        library_dir("workload")


def test_yaml_by_path(write):
    for path in (write(CLEAN), str(write(CLEAN))):
        assert load_workload(path, batch=3)["m"].tolist() == [3]


def test_seq_len(write):
    """A number sets every stream that the architecture does not fix; a mapping sets those it names."""
    path = write(SPEECH)
    assert load_workload(path)["m"].tolist() == [30, 5, 6]
    assert load_workload(path, seq_len=9)["m"].tolist() == [30, 9, 9]
    assert load_workload(path, seq_len={"text": 9})["m"].tolist() == [30, 9, 6]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"batch": 0}, ShapeError, "batch must be a whole number of at least 1, not 0"),
        ({"batch": 1.5}, ShapeError, "batch must be a whole number"),
        ({"batch": True}, ShapeError, "batch must be a whole number"),
        ({"batch": 10**40}, ShapeError, "64-bit"),
        ({"seq_len": 0}, ShapeError, "length of stream 'text' must be a whole number"),
        ({"seq_len": {"txt": 3}}, UnsupportedError, "unknown stream 'txt'; did you mean text"),
        ({"seq_len": {"frames": 3}}, UnsupportedError, "stream 'frames' has a length fixed by the architecture"),
        ({"decode": True}, UnsupportedError, "'net' cannot decode: none of its streams is autoregressive"),
        ({"context": 4}, UnsupportedError, "set decode too"),
        ({"dtype": "half"}, UnsupportedError, "unknown dtype 'half'"),
    ],
)
def test_options_that_cannot_be(write, options, error, message):
    with pytest.raises(error, match=message):
        load_workload(write(SPEECH), **options)


def test_seq_len_without_a_sequence(write):
    with pytest.raises(UnsupportedError, match="no sequence whose length can be set"):
        load_workload(write(CLEAN), seq_len=3)


def test_all_mistakes_of_a_file_at_once(write):
    """Names, streams, sizes and globs, each at its line and column."""
    path = write(
        HEAD
        + """sequence: {tokens: {length: 10}}
keep_dense:
  a: first layer
  fcc: classifier
layers:
  - {type: linear, name: a, in: 4, out: 6}
  - {type: linear, name: a, in: 4, out: 6}
  - {type: linear, name: fc, in: 4, out: 6, tokens: token}
  - {type: attention, name: t, heads: 6, head_dim: 2, kv_heads: 4, keys: nowhere}
  - {type: conv, name: g, in: 8, out: 6, kernel: 9, groups: 4, input: 4}
  - {type: linear, name: e, in: 4, out: 6, experts: 2, active: 3}
  - {type: avgpool, name: p, channels: 4, input: 4, kernel: 5}
"""
    )
    assert problems(path) == [
        (7, "no layer matches 'fcc'; did you mean fc?"),
        (10, "the name 'a' stands here again; it was first at line 9"),
        (11, "unknown stream 'token'; did you mean tokens?; allowed: sample, tokens"),
        (12, "layer 't': 4 key/value heads do not divide 6 heads"),
        (12, "unknown stream 'nowhere'; allowed: sample, tokens"),
        (13, "layer 'g': 4 groups do not divide 6 output channels"),
        (13, "layer 'g': a kernel of 9 x 9 does not fit a padded input of 4 x 4"),
        (14, "layer 'e': 3 active experts, but it has 2"),
        (15, "layer 'p': a kernel of 5 x 5 does not fit a padded input of 4 x 4"),
    ]
    with pytest.raises(SpecError, match=r"net\.yaml:11:53: layers\[2\]\.tokens: unknown stream"):
        load_workload(path)


def test_default_stream_that_is_not_there(write):
    """A linear layer runs on `tokens` unless it says otherwise; the mistake is shown at the layer."""
    path = write(HEAD + "layers:\n  - {type: linear, name: a, in: 4, out: 6}\n")
    assert problems(path) == [(5, "unknown stream 'tokens'; allowed: sample")]


def test_mistakes_inside_a_repeat_are_reported_once(write):
    path = write(
        HEAD
        + """layers:
  - type: repeat
    name: b
    count: 3
    layers:
      - {type: conv, name: c, in: 8, out: 6, kernel: 1, groups: 4, input: 4}
  - {type: conv, name: b.1.c, in: 8, out: 8, kernel: 1, input: 4}
"""
    )
    assert problems(path) == [
        (9, "layer 'c': 4 groups do not divide 6 output channels"),
        (10, "the name 'b.1.c' stands here again; it was first at line 9"),
    ]


def test_repeat_without_end(write):
    """A count of a billion is refused before anything is expanded."""
    layer = "{type: conv, name: c, in: 8, out: 8, kernel: 1, input: 4}"
    path = write(HEAD + f"layers:\n  - {{type: repeat, name: b, count: 1000000000, layers: [{layer}]}}\n")
    assert problems(path) == [(4, "1000000000 layers with repeats expanded; at most 100000 are supported")]


def test_reserved_stream(write):
    text = CLEAN.replace("layers:", "sequence: {sample: {length: 3}}\nlayers:")
    assert problems(write(text)) == [(4, "'sample' is reserved for layers that run once per sample")]


def test_schema_mistakes_carry_their_place(write):
    (line, message), *rest = problems(write(CLEAN.replace("out: 6", "out: 0")))
    assert (line, rest) == (5, [])
    assert "at least 1" in message


def test_importers_are_not_there(write):
    for name in ("config.json", "net.onnx"):
        with pytest.raises(UnsupportedError, match="write the layers as YAML; see workloads/"):
            load_workload(write(json.dumps({}), name))


def test_unknown_ending(write):
    with pytest.raises(UnsupportedError, match=r"ends in \.yaml, \.yml or \.csv"):
        load_workload(write(CLEAN, "net.txt"))


def test_csv(write):
    """A header and a product per line; empty cells and blank lines take the defaults or nothing."""
    path = write("name, m,n,k,count,pattern,operand,stage\nx,2,3,4,5,2:4,A,BP\n\ny,6,7,8,1,,,\n", "table.csv")
    frame = load_workload(path, dtype="bf16").to_frame()
    columns = ["layer", "stage", "m", "n", "k", "count", "a_pattern", "a_axis", "b_pattern", "a_role", "a_dtype"]
    assert frame[columns].to_numpy().tolist() == [
        ["x", "BP", 2, 3, 4, 5, "2:4", "k", "dense", "gradient", "bf16"],
        ["y", "FF", 6, 7, 8, 1, "dense", "", "dense", "activation", "bf16"],
    ]


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("m,n,k\n1,2,3\n4,5.5,6\n", ":3:3: n: ", "whole number"),
        ("m,n,k\n\n1,2,x\n", ":3:5: k: ", "not 'x'"),
        ("m,n,k\n1,0,3\n", ":2:3: n: ", "not 0"),
        ("m,n,k\n1,,3\n", ":2:3: n: ", "not ''"),
        ("m,n,k,pattern\n1,2,3,4:2\n", ":2:7: pattern: ", "not a pattern: 4:2"),
        ("m,n,kk\n1,2,3\n", ":1:5: ", "unknown column 'kk'"),
        ("m,n,m,k\n1,2,3,4\n", ":1:5: ", "stands here again"),
        ("m,n\n1,2\n", ":1:1: ", "the column 'k' is missing"),
        ("m,n,k\n1,2\n", ":2:1: ", "2 cells, but the header has 3"),
        ('m,n,k,name\n1,2,3,"x\n4,5,6,y\n', ":2:7: ", "the quote is not closed"),
        ('m,n,k,name\n1,2,3,"x\n4,5,6,"y"\n', ":2:7: ", "the quote is not closed"),
        ('m,n,k,name\n1,2,3,"x"y\n', ":2:7: ", "expected after"),
        ("m,n,k\n1,2,1_0\n", ":2:5: k: ", "not '1_0'"),
        ("m,n,k\n1,2,٣\n", ":2:5: k: ", "not '٣'"),
        ("m,n,k\n", ":1:1: ", "no products below the header"),
        ("", ":1:1: ", "the file is empty"),
        ("m,n,k\n99999999999,99999999999,99999999999\n", ":2:1: m: ", "overflow"),
    ],
)
def test_csv_mistakes(write, text, place, message):
    with pytest.raises(SpecError) as caught:
        load_workload(write(text, "table.csv"))
    assert f"table.csv{place}" in str(caught.value)
    assert message in str(caught.value)


def test_csv_takes_no_batch(write):
    with pytest.raises(UnsupportedError, match="is a table of products"):
        load_workload(write("m,n,k\n1,2,3\n", "table.csv"), batch=4)


def test_csv_that_cannot_be_read(tmp_path):
    (tmp_path / "bad.csv").write_bytes(b"m,n,k\n\xff\n")
    for name, message in (("bad.csv", "not UTF-8"), ("none.csv", "No such file")):
        with pytest.raises(SpecError, match=message):
            load_workload(tmp_path / name)


def test_products_have_no_model():
    with pytest.raises(UnsupportedError, match="without a model behind it"):
        gemm(4, 4, 4).training()


def test_gemm():
    """One FF product, its pattern along k of the operand named."""
    work = gemm(2, 3, 8, pattern="2:4", operand="A", dtype="fp8", count=5)
    (row,) = work.to_frame().to_dict("records")
    assert (row["m"], row["n"], row["k"], row["count"], row["stage"]) == (2, 3, 8, 5, "FF")
    assert (row["a_pattern"], row["a_axis"], row["b_pattern"], row["b_axis"]) == ("2:4", "k", "dense", "")
    assert (row["a_elements"], row["b_elements"], row["c_elements"]) == (80, 120, 30)
    assert (row["a_role"], row["b_role"], row["c_role"]) == ("activation", "weight", "activation")
    assert (row["a_dtype"], row["c_dtype"], work.macs_dense) == ("fp8", "fp8", 240)


def test_gemms_equals_gemm_row_by_row():
    frame = pd.DataFrame(
        {
            "m": [1, 2, 3], "n": [4, 5, 6], "k": [8, 8, 16.0], "count": [1, 2, 3], "pattern": ["2:4", "dense", "2:8"],
            "operand": ["B", "A", "A"], "dtype": ["fp16", "int8", "fp16"],
        }
    )  # fmt: skip
    many = gemms(frame).to_frame()
    single = [gemm(**row).to_frame() for row in frame.astype({"k": int}).to_dict("records")]
    pd.testing.assert_frame_equal(many, pd.concat(single, ignore_index=True))
    as_lists = gemms({name: frame[name].tolist() for name in frame}).to_frame()
    pd.testing.assert_frame_equal(many, as_lists)


def test_missing_words_take_the_default():
    frame = pd.DataFrame({"m": [1, 2], "n": [1, 2], "k": [4, 4], "pattern": ["2:4", None], "name": [None, "x"]})
    assert gemms(frame).to_frame()[["layer", "b_pattern"]].to_numpy().tolist() == [["gemm", "2:4"], ["x", "dense"]]


@pytest.mark.parametrize(
    ("column", "value"),
    [("m", float("nan")), ("n", -3), ("k", 0), ("k", 2.5), ("m", float("inf")), ("n", "7"), ("m", 2**70), ("k", True),
     ("count", None), ("pattern", "5:4"), ("pattern", 3), ("operand", "C"), ("dtype", "fp15"), ("stage", "UPDATE")],
)  # fmt: skip
def test_bad_cells_are_named(column, value):
    frame = {"m": [1, 1, 1], "n": [1, 1, 1], "k": [4, 4, 4]}
    good = {"count": 1, "pattern": "dense", "operand": "B", "dtype": "fp16", "stage": "FF"}.get(column, 4)
    frame[column] = np.array([good, good, value], dtype=object)
    with pytest.raises(CellError) as caught:
        gemms(frame)
    assert (caught.value.row, caught.value.column) == (2, column)
    assert str(caught.value).startswith(f"row 2, column {column!r}: ")


def test_bad_tables():
    with pytest.raises(ShapeError, match="unknown column 'patern'; did you mean pattern"):
        gemms({"m": [1], "n": [1], "k": [1], "patern": ["2:4"]})
    with pytest.raises(ShapeError, match="the column 'k' is missing"):
        gemms({"m": [1], "n": [1]})
    with pytest.raises(ShapeError, match="arrays of one length"):
        gemms({"m": [1, 2], "n": [1], "k": [1]})
    with pytest.raises(ShapeError, match="overflow"):
        gemm(2**30, 2**30, 2**30)
    with pytest.raises((PatternError, ShapeError), match="not a pattern"):
        gemm(1, 1, 1, "4:2")
    with pytest.raises(CellError, match=r"row 0, column 'm': must be a whole number .* not '4'"):
        gemms({name: np.array(["4"]) for name in "mnk"})


def test_a_million_products_take_less_than_a_second():
    """About 0.15 s on one core; the best of three, so that a busy machine does not decide."""
    rng = np.random.default_rng(0)
    rows = 1_000_000
    sizes = {name: rng.integers(1, 4096, rows) for name in ("m", "n", "k")}
    frame = pd.DataFrame({**sizes, "pattern": rng.choice(["dense", "2:4", "1:4"], rows)})
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        work = gemms(frame)
        seconds.append(time.perf_counter() - start)
    assert len(work) == rows
    assert min(seconds) < 1.0


def test_products_load_numpy_only():
    """`import nmsim` must stay light: neither pandas nor pydantic nor the YAML reader for a bare product."""
    code = (
        "import sys; from nmsim.workloads.products import gemm; gemm(4, 4, 4, '2:4');"
        "print([m for m in ('pandas', 'pydantic', 'ruamel', 'ruamel.yaml', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_all_bad_cells_of_a_table_at_once(write):
    """A bad cell in each column of line 2, one in line 3; of 100 more, those beyond the first 50 are counted."""
    with pytest.raises(SpecError) as caught:
        load_workload(write("m,n,k,dtype\n0,x,3,fp17\n1,1,-1,fp16\n", "t.csv"))
    assert [(p.line, p.path) for p in caught.value.problems] == [(2, "m"), (2, "n"), (2, "dtype"), (3, "k")]
    with pytest.raises(SpecError) as caught:
        load_workload(write("m,n,k\n" + "0,1,1\n" * 100, "u.csv"))
    assert len(caught.value.problems) == 51
    assert str(caught.value).endswith("and 50 more mistakes")


@pytest.mark.parametrize("thing", [[1, 2, 3], None, "x.csv", 7])
def test_what_is_no_table_is_refused(thing):
    with pytest.raises(ShapeError, match="gemms takes a DataFrame or a mapping of columns"):
        gemms(thing)


def test_a_table_without_rows_is_refused():
    with pytest.raises(ShapeError, match="no products"):
        gemms({"m": [], "n": [], "k": []})
    with pytest.raises(ShapeError, match="no products"):
        gemms(pd.DataFrame({"m": [], "n": [], "k": []}))


def test_what_is_no_name_is_refused():
    with pytest.raises(UnsupportedError, match="expected the name of a file of workloads/, or a path; got None"):
        load_workload(None)
