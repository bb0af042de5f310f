"""Files: what YAML means here, where each mistake is reported, and that no file brings down more than itself."""

import contextlib
import enum
import json
from typing import Annotated, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, ValidationError, field_validator, model_validator

from nmsim.errors import SpecError
from nmsim.specfile import (
    Bandwidth,
    Count,
    Document,
    Frequency,
    Power,
    Spec,
    format_path,
    parse_path,
    read,
    read_text,
    set_path,
    validate,
)


def problems(action, *args):
    with pytest.raises(SpecError) as caught:
        action(*args)
    return [str(p) for p in caught.value.problems]


# Reading


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("2:4", "2:4"), ("no", "no"), ("on", "on"), ("y", "y"), ("1_000", "1_000"), ("2024-01-01", "2024-01-01"),
        ("25.6 GB/s", "25.6 GB/s"), ("1e9", 1e9), ("1.", 1.0), (".5", 0.5), ("-3", -3), ("007", 7), ("0o14", 12),
        ("0x1F", 31), ("true", True), ("FALSE", False), ("tRue", "tRue"), ("~", None), ("null", None), ("", None),
        ("'12'", "12"), ('"no"', "no"), ("! 12", "12"), ("!!str 12", "12"), ('!!int "12"', 12), ("!!float 3", 3.0),
        ("0b11", "0b11"), ("1:30", "1:30"), ("=", "="), ("+12", 12), ("9223372036854775807", 2**63 - 1),
    ],
)  # fmt: skip
def test_a_word_means_what_yaml_1_2_says(word, value):
    found = read_text(f"a: {word}\n").data["a"]
    assert found == value
    assert type(found) is type(value)


def test_positions_are_those_of_values_and_of_the_keys_of_mappings():
    document = read_text("# a comment\nname: x\ndram:\n  size: 4\n  ports: [1, 22]\n")
    assert document.data == {"name": "x", "dram": {"size": 4, "ports": [1, 22]}}
    assert document.positions == {
        (): (2, 1), ("name",): (2, 7), ("dram",): (3, 1), ("dram", "size"): (4, 9), ("dram", "ports"): (5, 3),
        ("dram", "ports", 0): (5, 11), ("dram", "ports", 1): (5, 14),
    }  # fmt: skip
    assert document.keys["dram", "size"] == (4, 3)


def test_an_aliased_value_stands_where_its_anchor_wrote_it():
    document = read_text("a: &x {n: 1}\nb: *x\n")
    assert document.data == {"a": {"n": 1}, "b": {"n": 1}}
    assert document.positions["b", "n"] == (1, 11)
    assert document.positions["b",] == (2, 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "<text>:1:1: the file is empty"),
        ("# only this\n", "<text>:1:1: the file is empty"),
        ("---\n", "<text>:1:1: the file is empty"),
        ("a: 1\nb: [1, 2\n", "<text>:3:1: not valid YAML"),
        ("a: 'x\n", "<text>:2:1: not valid YAML"),
        ("a: 1\n\tb: 2\n", "<text>:2:1: not valid YAML: found character '\\t'"),
        ("a: b: c\n", "<text>:1:5: not valid YAML: mapping values are not allowed here (a second ':'"),
        ("a: 1\n b: 2\n", "<text>:2:3: not valid YAML"),
        ("a: 1\n---\nb: 2\n", "<text>:2:1: a second document begins"),
        ("a: 1\nb: 2\na: 3\n", "<text>:3:1: the key 'a' stands here again; it was first at line 1, column 1"),
        ("a: 1\n2: x\n", "<text>:2:1: a key must be a text; quote it: '2'"),
        ("? [a]\n: x\n", "<text>:1:3: a key must be a text"),
        ("a: &x {}\n<<: *x\n", "<text>:2:1: the merge key << is not part of YAML 1.2"),
        ("a: !unit 3\n", "<text>:1:4: the tag !unit is not allowed here"),
        ("a: !!python/object:os.system x\n", "<text>:1:4: the tag !!python/object:os.system is not allowed here"),
        ("a: !!set {x}\n", "<text>:1:4: the tag !!set is not allowed here"),
        ("a: !!int x\n", "<text>:1:4: a: 'x' is not a !!int"),
        ("a: *c\n", "<text>:1:4: the alias *c has no anchor &c above it"),
        ("a: &a [*a]\n", "<text>:1:8: the alias *a stands inside what it names"),
        ("a: .nan\n", "<text>:1:4: a: .nan is not a finite number"),
        ("a: [1, -.inf]\n", "<text>:1:8: a[1]: -.inf is not a finite number"),
        ("a: 1e999\n", "<text>:1:4: a: 1e999 is not a finite number"),
        ("a: 9223372036854775808\n", "<text>:1:4: a: the integer 9223372036854775808 does not fit in 64 bits"),
        ("a: " + "9" * 5000, "<text>:1:4: a: the integer 9999999999999999999999999999999999999999… does not fit"),
        ('a: "\\ud800"\n', "<text>:1:4: a: an escape writes half a character"),
        ("a: b\x01\n", "<text>:1:5: the character U+0001 cannot stand in a YAML file"),
        ('a: "\\UFFFFFFFF"\n', "<text>:1:2: cannot be read as YAML after this place"),
    ],
)
def test_a_text_that_cannot_be_read_says_where_and_why(text, expected):
    (problem,) = problems(read_text, text)
    assert problem.startswith(expected)


def test_all_mistakes_of_a_readable_text_are_reported_at_once():
    found = problems(read_text, "a: .nan\na: !x 1\n3: 4\n")
    assert [p.split(": ")[0] for p in found] == ["<text>:1:4", "<text>:2:1", "<text>:2:4", "<text>:3:1"]


def test_files_that_cannot_be_opened(tmp_path):
    (tmp_path / "chip.yaml").write_text("a: 1\n")
    missing, deep = tmp_path / "chop.yaml", tmp_path / "no" / "chip.yaml"
    assert problems(read, missing) == [f"{missing}:1:1: no such file; did you mean chip.yaml?"]
    assert problems(read, deep) == [f"{deep}:1:1: no such file; there is no directory {str(deep.parent)!r} either"]
    assert problems(read, tmp_path) == [f"{tmp_path}:1:1: is a directory; give a file in it"]
    assert "cannot be read" in problems(read, "a\0b")[0]
    assert read(tmp_path / "chip.yaml").data == {"a": 1}


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"", ":1:1: the file is empty"),
        (b"a: 1\nb: \xff\n", ":2:4: the byte 0xff is not UTF-8 text; is it a binary file"),
        ("a: µ".encode("utf-16"), ":1:1: the byte 0xff is not UTF-8 text; it looks like UTF-16"),
        (b"\x7fELF\x02\x01\x00", ":1:1: the character U+007F cannot stand in a YAML file; is it text?"),
        (b"\xef\xbb\xbfa: .nan", ":1:4: a: .nan is not a finite number"),
        (b"a: 1\r\nb: .nan\r\n", ":2:4: b: .nan is not a finite number"),
    ],
)
def test_bytes_that_are_no_text(tmp_path, raw, expected):
    file = tmp_path / "x.yaml"
    file.write_bytes(raw)
    assert problems(read, file)[0].startswith(f"{file}{expected}")


def test_a_file_that_is_too_large(tmp_path):
    file = tmp_path / "x.yaml"
    with file.open("wb") as handle:
        handle.truncate(16_000_001)
    assert problems(read, file) == [f"{file}:1:1: the file is larger than 16 MB"]


def test_billion_laughs():
    """Nine levels of ten aliases are a billion values.

    Line i holds about 10^i: the first five lines make some 123,000, so the first alias of line 6 is too much.
    """
    lines = ["l0: &l0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 10)}]" for i in range(1, 10)]
    (problem,) = problems(read_text, "\n".join(lines))
    assert problem == "<text>:6:10: more than 200,000 values, aliases expanded"


def test_deep_nesting():
    assert read_text("[" * 64 + "]" * 64).data
    for text in ("[" * 66 + "]" * 66, "[" * 100_000, "{a: " * 5000, "- " * 3000, "? " * 3000):
        assert "nested deeper than 64 levels" in problems(read_text, text)[0]


def test_nesting_through_aliases():
    """Forty levels under forty levels are eighty, though neither is written deeper than forty."""
    deep = "[" * 40 + "]" * 40
    assert problems(read_text, f"a: &a {deep}\nb: {'[' * 40}*a{']' * 40}\n") == [
        "<text>:2:44: nested deeper than 64 levels"
    ]


def test_too_many_values():
    assert "more than 200,000 values" in problems(read_text, "[" + "1," * 200_001 + "]")[0]


YAMLISH = st.text(alphabet=st.sampled_from(list("ab:-[]{},&*!|>'\"%@#?~\n \t.0129exX\\u\r")), max_size=60)


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.text(), YAMLISH, st.binary().map(lambda raw: raw.decode("latin-1"))))
def test_any_text_is_a_document_or_a_spec_error(text):
    try:
        document = read_text(text)
    except SpecError as caught:
        places = [(p.line, p.column) for p in caught.problems]
    else:
        places = list(document.positions.values())
        json.dumps(document.data, allow_nan=False)
    assert min(map(min, places)) >= 1


@settings(max_examples=100, deadline=None)
@given(st.binary())
def test_any_file_is_a_document_or_a_spec_error(tmp_path_factory, raw):
    file = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    file.write_bytes(raw)
    with contextlib.suppress(SpecError):
        read(file)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"))),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text("xyz", min_size=1), PLAIN, min_size=1))
def test_json_is_yaml(data):
    document = read_text(json.dumps(data))
    assert document.data == data


# Validation


class Systolic(Spec):
    kind: Literal["systolic"]
    rows: Count = Field(description="rows of the array")
    cols: Count
    in_: int = Field(default=0, alias="in")


class Vector(Spec):
    kind: Literal["vector"]
    lanes: Annotated[int, Field(gt=0, le=1024)]


class Memory(Spec):
    bandwidth: Bandwidth = Field(description="peak bandwidth")
    width: int | Literal["auto"] = "auto"


class Flow(enum.Enum):
    WS = "ws"
    OS = "os"


Unit = Annotated[Systolic | Vector, Field(discriminator="kind")]


class Chip(Spec):
    name: str
    clock: Frequency = 1e9
    memories: dict[str, Memory] = {}
    unit: Unit | None = None
    units: list[Unit] = []
    tile: tuple[int, int] = (1, 1)
    tiles: list[tuple[int, int]] = []
    flow: Flow = Flow.WS
    mode: Literal["serial", "pipelined"] = "serial"
    share: float = 1.0
    on: bool = True
    tdp: Power = 0.0

    @field_validator("share")
    @classmethod
    def _a_share(cls, value):
        if value > 1:
            raise ValueError("more than the whole")
        return value

    @model_validator(mode="after")
    def _named(self):
        if self.name == "bad":
            raise ValueError("a bad chip")
        return self


GOOD = """\
name: good
clock: 1.5 GHz
memories:
  dram: {bandwidth: 25.6 GB/s, width: auto}
  sram: {bandwidth: 1 TB/s, width: 64}
unit: {kind: vector, lanes: 8}
units:
  - kind: systolic
    rows: 32
    cols: 16
    in: 3
tile: [8, 4]
tiles: [[1, 2], [3, 4]]
flow: os
share: 1
tdp: 0 W
"""


def test_a_good_file_becomes_a_model_in_si_units():
    chip = validate(Chip, read_text(GOOD))
    assert chip.clock == 1.5e9
    assert chip.memories["dram"].bandwidth == 25.6e9
    assert chip.units == [Systolic(kind="systolic", rows=32, cols=16, in_=3)]
    assert chip.tiles == [(1, 2), (3, 4)]
    assert chip.flow is Flow.OS
    assert (chip.share, chip.tdp) == (1.0, 0.0)
    with pytest.raises(ValidationError, match="frozen"):
        chip.name = "other"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("clok: 1 GHz", "2:1: clok: unknown field 'clok'; did you mean clock"),
        ("clock: 25.6", "2:8: clock: '25.6' needs a unit: one of Hz, kHz, MHz, GHz"),
        ("clock: 1 GB", "2:8: clock: unknown unit 'GB' for a frequency"),
        ("clock: [1]", "2:1: clock: expected a frequency such as '1.2 GHz', got [1]"),
        ("memories: {dram: {bandwith: 1 B/s}}", "2:12: memories.dram.bandwidth: is missing: peak bandwidth"),
        ("memories:\n  dram: {}", "3:3: memories.dram.bandwidth: is missing: peak bandwidth"),
        ("memories: 3", "2:11: memories: expected a mapping, got 3"),
        ("memories:\n  dram: x", "3:9: memories.dram: expected a mapping, got 'x'"),
        ("unit: {kind: sistolic}", "2:14: unit.kind: unknown value 'sistolic'; did you mean systolic"),
        ("unit: {rows: 3}", "2:1: unit.kind: is missing; allowed: systolic, vector"),
        ("unit: {kind: vector, lanes: 0}", "2:29: unit.lanes: must be greater than 0, got 0"),
        ("unit: {kind: vector, lanes: 2000}", "2:29: unit.lanes: must be at most 1024, got 2000"),
        ("unit: {kind: vector, lanes: 2.0}", "2:29: unit.lanes: expected an integer, got 2.0"),
        ("unit: {kind: vector, lanes: true}", "2:29: unit.lanes: expected an integer, got true"),
        ("unit: {kind: vector, lanes: abc}", "2:29: unit.lanes: expected an integer, got 'abc'"),
        ("unit: {kind: vector, lanes: '8'}", "2:29: unit.lanes: expected an integer, got '8'"),
        ("unit: 3", "2:7: unit: expected a mapping, got 3"),
        ("units:\n  - {kind: systolic, rows: 1, cols: 1, inn: 3}",
         "3:40: units[0].inn: unknown field 'inn'; did you mean in"),
        ("units:\n  - {kind: systolic, rows: 1, cols: 1, in: x}", "3:44: units[0].in: expected an integer, got 'x'"),
        ("units:\n  - {kind: systolic, cols: 1}", "3:5: units[0].rows: is missing: rows of the array"),
        ("tile: [1]", "2:1: tile[1]: is missing"),
        ("tile: [1, x]", "2:11: tile[1]: expected an integer, got 'x'"),
        ("tiles: [[1, 2], [3, 4.5]]", "2:21: tiles[1][1]: expected an integer, got 4.5"),
        ("tiles: 2:4", "2:8: tiles: expected a list, got '2:4'"),
        ("flow: is", "2:7: flow: unknown value 'is'; did you mean"),
        ("mode: piplined", "2:7: mode: unknown value 'piplined'; did you mean pipelined?; allowed: pipelined, serial"),
        ("mode: 3", "2:7: mode: expected serial or pipelined, got 3"),
        ("on: yes", "2:5: on: expected true or false, got 'yes'"),
        ("share: true", "2:8: share: expected a number, got true"),
        ("share: '0.5'", "2:8: share: expected a number, got '0.5'"),
        ("share: 2", "2:8: share: more than the whole"),
        ("memories: {m: {bandwidth: 1 B/s, width: atuo}}",
         "2:41: memories.m.width: expected an integer or auto, got 'atuo'"),
        ("tdp: -1 W", "2:6: tdp: a power must not be negative, got '-1 W'"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_place_and_what_is_allowed(text, expected):
    found = problems(validate, Chip, read_text(f"name: x\n{text}\n", "chip.yaml"))
    assert found[0].startswith(f"chip.yaml:{expected}")
    assert len(found) == 1 + text.count("bandwith")


def test_a_mistake_of_the_whole_file():
    assert problems(validate, Chip, read_text("# c\nname: bad\n")) == ["<text>:2:1: a bad chip"]
    assert problems(validate, Chip, read_text("- 1\n")) == ["<text>:1:1: expected a mapping, got a list of 1"]
    assert problems(validate, Chip, read_text("clock: 1 GHz\n")) == ["<text>:1:1: name: is missing"]


def test_five_mistakes_give_five_problems_in_the_order_of_the_file():
    text = """\
name: 3
clock: fast
memories:
  dram: {bandwidth: 12 GB}
units:
  - {kind: systolic, rows: 0, cols: 4}
  - {kind: tensor}
"""
    assert problems(validate, Chip, read_text(text, "f")) == [
        "f:1:7: name: expected a text, got 3",
        "f:2:8: clock: 'fast' is not a frequency; write it as '1.2 GHz'",
        "f:4:21: memories.dram.bandwidth: unknown unit 'GB' for a bandwidth; did you mean GB/s? allowed: B/s, kB/s, "
        "MB/s, GB/s, TB/s, KiB/s, MiB/s, GiB/s, TiB/s, b/s, kb/s, Mb/s, Gb/s, Tb/s",
        "f:6:28: units[0].rows: must be at least 1, got 0",
        "f:7:12: units[1].kind: unknown value 'tensor'; did you mean vector?; allowed: systolic, vector",
    ]


def test_a_key_that_is_also_a_tag_stays_in_the_path():
    class Leaf(Spec):
        kind: Literal["leaf"]
        leaf: dict[str, int] = {}

    class Twig(Spec):
        kind: Literal["twig"]

    class Tree(Spec):
        top: Annotated[Leaf | Twig, Field(discriminator="kind")]

    assert problems(validate, Tree, read_text("top: {kind: leaf, leaf: {leaf: x}}")) == [
        "<text>:1:32: top.leaf.leaf: expected an integer, got 'x'"
    ]


class Leaf(Spec):
    kind: Literal["leaf"]
    size: int = 0


class Branch(Spec):
    kind: Literal["branch"]
    parts: list["Part"]


Part = Annotated[Leaf | Branch, Field(discriminator="kind")]


def test_a_model_that_contains_itself():
    document = read_text("kind: branch\nparts:\n  - {kind: branch, parts: [{kind: leaf, sise: 3}, {kind: lef}, {}]}\n")
    assert problems(validate, Branch, document) == [
        "<text>:3:41: parts[0].parts[0].sise: unknown field 'sise'; did you mean size?; allowed: kind, size",
        "<text>:3:58: parts[0].parts[1].kind: unknown value 'lef'; did you mean leaf?; allowed: branch, leaf",
        "<text>:3:64: parts[0].parts[2].kind: is missing; allowed: leaf, branch",
    ]


def test_a_part_of_a_document():
    document = read_text("memories:\n  dram: {bandwidth: 3}\n")
    (problem,) = problems(validate, Memory, document, ("memories", "dram"))
    assert problem.startswith("<text>:2:21: memories.dram.bandwidth: '3' needs a unit")
    assert problems(validate, Memory, document, ("memories", "drum")) == [
        "<text>:1:1: memories: no entry 'drum' here; nearest: dram"
    ]


def test_quantities_tell_their_form_in_the_json_schema():
    schema = Memory.model_json_schema()["properties"]["bandwidth"]
    assert schema["type"] == "string"
    assert schema["examples"] == ["25.6 GB/s"]
    assert "GB/s" in schema["pattern"].replace("\\", "")


# Overrides


def test_an_override_replaces_an_entry_and_leaves_the_document_alone():
    document = read_text(GOOD)
    changed = set_path(document, "memories.dram.bandwidth", "12.8 GB/s")
    changed = set_path(changed, "units[0].rows", "64")
    changed = set_path(changed, "tiles[1]", [5, 6])
    chip = validate(Chip, changed)
    assert (chip.memories["dram"].bandwidth, chip.units[0].rows, chip.tiles[1]) == (12.8e9, 64, (5, 6))
    assert document.data == read_text(GOOD).data
    assert document.overrides == ()


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("clock", "3", "--set clock=3: clock: '3' needs a unit"),
        ("memories.dram.bandwith", "3", "--set memories.dram.bandwith=3: memories.dram.bandwith: unknown field"),
        (
            "memries.dram.bandwidth",
            "3",
            "--set memries.dram.bandwidth=3: memries: unknown field 'memries'; did you mean",
        ),
        ("clock.x", "3", "--set clock.x=3: clock: no entry 'x' here: this is '1.5 GHz', not a mapping"),
        (
            "units[7].rows",
            "3",
            "--set units[7].rows=3: units: no entry [7] here: this is a list with the entries [0] to",
        ),
        ("units.rows", "3", "--set units.rows=3: units: no entry rows here: this is a list"),
        (
            "memories[0]",
            "3",
            "--set memories[0]=3: memories: no entry [0] here: this is not a list; nearest: dram, sram",
        ),
        ("clock", ".inf", "--set clock=.inf: .inf is not a finite number"),
        ("clock", object, "--set clock=<class 'object'>: cannot be set to a type"),
        ("", "3", "--set : not a path"),
        ("a..b", "3", "--set a..b: not a path"),
    ],
)
def test_a_wrong_override_is_reported_as_typed(path, value, expected):
    def apply():
        validate(Chip, set_path(read_text(GOOD), path, value))

    (problem,) = problems(apply)
    assert problem.startswith(expected)


def test_numpy_scalars_can_be_set():
    np = pytest.importorskip("numpy")
    assert set_path(read_text("a: 1"), "a", np.int64(7)).data == {"a": 7}


@given(st.lists(st.one_of(st.text("abc_-", min_size=1), st.integers(0, 99)), min_size=1))
def test_a_printed_path_reads_back(path):
    path = tuple(path)
    assert parse_path(format_path(path)) == path


def test_with_data_keeps_positions():
    document = read_text("a:\n  b: 1\n")
    assert isinstance(document, Document)
    assert str(document.with_data({"a": {"b": 2}}).problem(("a", "b", "c"), "no")) == "<text>:2:6: a.b.c: no"


def test_a_text_in_brackets_sets_a_list():
    document = read_text("a: [1]\nb: x\n")
    assert set_path(document, "a", "[ws, 2, '3']").data == {"a": ["ws", 2, "3"], "b": "x"}
    (problem,) = problems(lambda: set_path(document, "a", "[ws"))
    assert problem.startswith("--set a=[ws: not valid YAML")
