"""`nmsim check` and `nmsim schema`: files of every kind, good and bad."""

from __future__ import annotations

import json
import re

import pytest

from nmsim import library


def test_every_file_of_the_library_is_good(nmsim_):
    files = [path for kind in library.KINDS for path in library.library_dir(kind).glob("*.yaml")]
    outcome = nmsim_("check", *files)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.count(": ok (") == len(files)


def test_a_table_of_products_is_checked(nmsim_, tmp_path):
    (tmp_path / "p.csv").write_text("m,n,k\n1,2,3\n4,5,6\n")
    assert nmsim_("check", tmp_path / "p.csv").out == f"{tmp_path / 'p.csv'}: ok (2 products)\n"


def test_all_problems_of_all_files_are_shown(nmsim_, tmp_path):
    good = library.find("workloads", "resnet9")
    text = library.find("arch_configs", "sat_vcu1525").read_text()
    (tmp_path / "a.yaml").write_text(text.replace("rows:", "rosw:").replace("200 MHz", "200 MB"))
    (tmp_path / "b.yaml").write_text("kind: workload\nname: x\nsource: s\nlayers: []\n")
    outcome = nmsim_("check", tmp_path / "a.yaml", good, tmp_path / "b.yaml")
    assert outcome.code == 2
    assert outcome.out.startswith(f"{good}: ok (")
    lines = outcome.err.splitlines()
    assert sum(line.startswith(f"{tmp_path / 'a.yaml'}:") for line in lines) >= 2
    assert sum(line.startswith(f"{tmp_path / 'b.yaml'}:4:") for line in lines) == 1


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "the file is empty"),
        (b"\x89PNG\xff", "not UTF-8"),
        (b"name: x\n", "kind: is missing"),
        (b"kind: sistolic\n", "did you mean systolic"),
        (b"[1, 2]\n", "kind"),
        (b"kind: [a]\n", "unknown kind"),
    ],
)
def test_a_file_of_no_kind_is_refused(refused, tmp_path, raw, message):
    (tmp_path / "x.yaml").write_bytes(raw)
    assert message in refused("check", tmp_path / "x.yaml")


def test_what_is_no_file_is_refused(refused, tmp_path):
    assert "no such file" in refused("check", tmp_path / "x.yaml")
    assert "is a directory" in refused("check", tmp_path)
    assert "FILE" in refused("check")


def test_sizes_that_overflow_are_a_problem_of_the_file(refused, tmp_path):
    layer = f"{{type: linear, name: l, in: {2**40}, out: {2**40}, tokens: sample}}"
    (tmp_path / "x.yaml").write_text(f"kind: workload\nname: x\nsource: s\nlayers: [{layer}]\n")
    assert refused("check", tmp_path / "x.yaml").startswith(f"{tmp_path / 'x.yaml'}:1:1: ")


@pytest.mark.parametrize("kind", ["arch", "workload"])
def test_schemas_are_json_with_every_reference_defined(nmsim_, kind):
    text = nmsim_("schema", kind).out
    schema = json.loads(text)
    assert schema["title"].startswith("nmsim")
    references = {part.split('"')[0] for part in text.split('"#/$defs/')[1:]}
    assert references <= set(schema["$defs"])


def test_unknown_kinds_are_refused(refused):
    assert "arch" in refused("schema", "machine")


def test_a_file_of_another_kind_is_told_by_its_kind_alone(refused, tmp_path):
    (tmp_path / "r.yaml").write_text("kind: recipe\nname: r\ntitle: t\nprunes: []\n")
    message = refused("run", "sat_vcu1525", tmp_path / "r.yaml")
    assert message == f"{tmp_path / 'r.yaml'}:1:7: kind: unknown value 'recipe'; allowed: workload\n"


def test_names_of_the_library_are_checked_too(nmsim_):
    assert nmsim_("check", "sat_vcu1525", "resnet9").out.count(": ok (") == 2
    both = nmsim_("check", "example_annotated").out
    assert "example_annotated.yaml: ok (workload, " in both
    assert "example_annotated.yaml: ok (systolic machine, " in both


def test_energies_that_are_not_known_are_problems_of_the_file(refused, tmp_path):
    """`run` refuses what `check` does, at the same lines."""
    text = library.find("arch_configs", "systolic_32x32").read_text()
    (tmp_path / "a.yaml").write_text(
        re.sub(r"(dram: )\w+(\n)", r"\1lpdr4\2", re.sub(r"node: \S+ nm", "node: 1 nm", text))
    )
    checked = refused("check", tmp_path / "a.yaml")
    assert "energy.dram: unknown kind of DRAM 'lpdr4'; did you mean lpddr4" in checked
    assert "energy.node: 1 nm is far from every node" in checked
    assert all(line.startswith(f"{tmp_path / 'a.yaml'}:") for line in checked.splitlines())
    assert refused("run", tmp_path / "a.yaml", "resnet9") == checked
    assert "--set energy.dram=lpdr4: " in refused("run", "sat_vcu1525", "resnet9", "--set", "energy.dram=lpdr4")
