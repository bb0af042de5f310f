"""Origins of numbers: what a mark covers, what is reported where one is missing, and that positions survive."""

from typing import Annotated, Literal

import pytest
from pydantic import Field

from nmsim.arch.provenance import Provenance, json_schema, split
from nmsim.errors import SpecError
from nmsim.specfile import Bandwidth, Count, Spec, read_text, set_path, validate


def found(text):
    document, provenance, problems = split(read_text(text, "chip.yaml"))
    assert problems == []
    return document.data, {path: (p.kind, p.text) for path, p in provenance.items()}


def mistakes(text):
    return [str(p) for p in split(read_text(text, "chip.yaml"))[2]]


def test_a_mark_holds_for_the_numbers_of_its_mapping_and_below():
    data, provenance = found("array:\n  rows: 32\n  mac: {cycles: 2}\n  source: paper, Table 3\n")
    assert data == {"array": {"rows": 32, "mac": {"cycles": 2}}}
    table = ("source", "paper, Table 3")
    assert provenance == {("array", "rows"): table, ("array", "mac", "cycles"): table}


def test_the_nearest_mark_wins():
    _, provenance = found("a: 1\nb: {c: 2, assumed: round}\nd: {value: 3, calibrated: fit, note: n}\nsource: all\n")
    assert provenance == {("a",): ("source", "all"), ("b", "c"): ("assumed", "round"), ("d",): ("calibrated", "fit")}


def test_a_mapping_with_value_stands_for_its_value():
    data, provenance = found("dram: {bandwidth: {value: 25.6 GB/s, source: data sheet}}\n")
    assert data == {"dram": {"bandwidth": "25.6 GB/s"}}
    assert provenance == {("dram", "bandwidth"): ("source", "data sheet")}


def test_a_list_is_one_number_unless_it_holds_mappings():
    data, provenance = found(
        "tiles: {value: [[128, 128], [64, 64]], assumed: common}\n"
        "units: [{rows: {value: 4, source: s}}, {rows: 8, source: t}]\n"
        "sizes: [{value: 1, source: u}, {value: 2, source: v}]\n"
    )
    assert data == {"tiles": [[128, 128], [64, 64]], "units": [{"rows": 4}, {"rows": 8}], "sizes": [1, 2]}
    assert provenance == {
        ("tiles",): ("assumed", "common"),
        ("units", 0, "rows"): ("source", "s"),
        ("units", 1, "rows"): ("source", "t"),
        ("sizes", 0): ("source", "u"),
        ("sizes", 1): ("source", "v"),
    }


def test_words_truths_and_the_head_of_a_file_are_no_numbers():
    data, provenance = found(
        "name: 3d\ntitle: 7 nm\nkind: 1\ndescription: 2024 chip\nmode: serial\non: true\nx: null\n"
    )
    assert provenance == {}
    assert data["title"] == "7 nm"
    assert mistakes("core: {name: 3d}\n")[0].startswith("chip.yaml:1:14: core.name: needs source:")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rows: 32\n", "1:7: rows: needs source:, assumed: or calibrated: beside it or above it, or the form"),
        ("clock: 1 GHz\n", "1:8: clock: needs source:"),
        ("tile: [1, 2]\n", "1:1: tile: needs source:"),
        ("a:\n  b: {value: 3}\n", "2:14: a.b.value: needs source:"),
        ("a: {b: 1, source: x, assumed: y}\n",
         "1:31: a.assumed: a number has one origin, but source and assumed stand side by side"),
        ("a: {b: 1, source: ''}\n", "1:19: a.source: needs a text that says where the number was published"),
        ("a: {b: 1, assumed: }\n", "1:19: a.assumed: needs a text that says why the number was assumed"),
        ("a: {b: 1, calibrated: 3}\n", "1:23: a.calibrated: needs a text that says what the number was fitted to"),
    ],
)  # fmt: skip
def test_a_number_without_one_origin_is_a_problem(text, expected):
    (problem,) = mistakes(text)
    assert problem.startswith(f"chip.yaml:{expected}")


def test_every_number_without_an_origin_is_reported():
    places = [p.split(": ")[0] for p in mistakes("a: 1\nb: {c: 2, d: x}\ne: [3, {f: 4}]\n")]
    assert places == ["chip.yaml:1:4", "chip.yaml:2:8", "chip.yaml:3:5", "chip.yaml:3:12"]


class Memory(Spec):
    bandwidth: Bandwidth
    banks: Count = 1


class Array(Spec):
    kind: Literal["array"]
    rows: Count = Field(description="rows of the array")
    tiles: list[tuple[int, int]] = []


class Lanes(Spec):
    kind: Literal["lanes"]
    lanes: Count | None = None


class Chip(Spec):
    name: str
    memories: dict[str, Memory]
    unit: Annotated[Array | Lanes, Field(discriminator="kind")]


def test_positions_survive():
    text = """\
name: chip
memories:
  dram:
    bandwidth: {source: sheet, value: 25.6}
    bancks: {value: 4, assumed: x}
unit:
  kind: array
  rows: {value: 0, source: y}
  tiles: {source: z, value: [[1, 2], [3, x]]}
"""
    document, _, problems = split(read_text(text, "f"))
    assert problems == []
    with pytest.raises(SpecError) as caught:
        validate(Chip, document)
    assert [str(p)[:32] for p in caught.value.problems] == [
        "f:4:39: memories.dram.bandwidth:",
        "f:5:5: memories.dram.bancks: unk",
        "f:8:17: unit.rows: must be at le",
        "f:9:42: unit.tiles[1][1]: expect",
    ]


def test_an_override_is_its_own_origin():
    document = read_text("array: {rows: {value: 32, source: paper}, cols: {value: 4, source: paper}}\n")
    plain, provenance, problems = split(set_path(document, "array.rows", "64"))
    assert plain.data == {"array": {"rows": 64, "cols": 4}}
    assert problems == []
    assert provenance["array", "rows"] == Provenance("override", "64")
    assert provenance["array", "cols"] == Provenance("source", "paper")


def test_a_file_that_is_no_mapping_is_left_to_validation():
    assert split(read_text("word\n"))[0].data == "word"
    assert len(mistakes("- 1\n- a: 2\n")) == 2


def test_the_json_schema_takes_marks_in_mappings_and_values_with_marks():
    schema = json_schema(Chip)
    memory = schema["$defs"]["Memory"]
    assert {"source", "assumed", "calibrated", "bandwidth", "banks"} == set(memory["properties"])
    assert memory["additionalProperties"] is False
    plain, valued = memory["properties"]["banks"]["anyOf"]
    assert plain == {"minimum": 1, "type": "integer"}
    assert memory["properties"]["banks"]["default"] == 1
    assert set(valued["properties"]) == {"value", "source", "assumed", "calibrated", "note"}
    assert valued["properties"]["value"] == plain
    assert schema["properties"]["memories"]["additionalProperties"] == {"$ref": "#/$defs/Memory"}
    assert "source" in schema["properties"]["memories"]["properties"]
    array = schema["$defs"]["Array"]["properties"]
    assert array["kind"] == {"const": "array", "title": "Kind", "type": "string"}
    assert array["rows"]["description"] == "rows of the array"
    assert array["tiles"]["anyOf"][1]["properties"]["value"]["type"] == "array"
    assert "oneOf" in schema["properties"]["unit"]
