"""Scoring a directory: the model against itself, against a perturbation, and the tables that ship."""

from __future__ import annotations

import csv

import numpy as np
import pytest

import nmsim
from nmsim.errors import NmsimError, UnsupportedError
from nmsim.report.validation_plots import COLOURS
from nmsim.specfile import read
from nmsim.validation.datasets import OVERHEAD, TABLES, validate
from nmsim.validation.points import joined
from nmsim.validation.records import point_records, to_dict, totals
from nmsim.validation.settings import DATA, machine

ARCH = "a100_sxm4_80gb"
SHAPES = [(64, 64, 64), (256, 1024, 512), (2048, 512, 4096), (4096, 4096, 4096)]


def seconds(m, n, k, pattern="dense", dtype="fp16"):
    return nmsim.simulate(ARCH, nmsim.gemm(m, n, k, pattern, "A", dtype)).latency_s


def rows(errors=(0.0,) * 4, pattern="dense", **more):
    """Products whose measured times are such that the prediction is wrong by these shares."""
    return [
        {
            "source_key": "own", "device": ARCH, "dtype": "fp16", "M": m, "N": n, "K": k, "pattern": pattern,
            "sparse_operand": "A", "time_us": repr(1e6 * seconds(m, n, k, pattern) / (1 + error)), "source": "a test",
        } | more
        for (m, n, k), error in zip(SHAPES, errors, strict=True)
    ]  # fmt: skip


@pytest.mark.parametrize("pattern", ["dense", "2:4"])
def test_the_models_own_predictions_score_nothing(write, pattern):
    (found,) = validate(write("measured_gemm.csv", rows(pattern=pattern))).sets
    assert found.name == f"own_{ARCH}_fp16_{pattern}"
    assert found.errors.mape == pytest.approx(0, abs=1e-12)
    assert found.errors.rank == pytest.approx(1)
    assert found.within


def test_a_perturbation_scores_exactly_that(write):
    (found,) = validate(write("measured_gemm.csv", rows((0.1, -0.2, 0.4, 0.0)))).sets
    assert found.errors.mape == pytest.approx(0.175)
    assert found.errors.bias == pytest.approx(0.075)
    assert found.errors.worst == 2
    record = point_records(validate(write("measured_gemm.csv", rows((0.1, -0.2, 0.4, 0.0)))))[2]
    assert (record["line"], record["point"]) == (4, "2048x512x4096")
    assert record["error"] == pytest.approx(0.4)


def test_the_cause_of_the_worst_point_is_the_largest_of_its_waterfall(write):
    (found,) = validate(write("measured_gemm.csv", rows((0.0, 0.0, 0.0, 0.9)))).sets
    causes = nmsim.simulate(ARCH, nmsim.gemm(*SHAPES[3])).breakdown("cause")["share"]
    assert found.cause(3) == (causes.idxmax(), pytest.approx(causes.max()))


def test_an_overhead_is_added_to_every_point(write):
    overheads = 'kind: overheads\noverheads: {"own_*": {value: 50 us, calibrated: "a test"}, "*": {value: 0 s}}\n'
    (found,) = validate(write("measured_gemm.csv", rows(), overheads)).sets
    np.testing.assert_allclose(found.predicted_s - found.measured_s, 50e-6)
    assert found.cause(0) == (OVERHEAD, pytest.approx(50e-6 / found.predicted_s[0]))


def test_speed_ups_are_ratios_of_two_simulations(write):
    sparse = [
        row | {"dense_ref_time_us": repr(2e6 * seconds(*shape))}
        for row, shape in zip(rows(pattern="2:4"), SHAPES, strict=True)
    ]
    (gains,) = validate(write("measured_gemm.csv", sparse)).gains
    ratio = np.array([seconds(*shape) / seconds(*shape, "2:4") for shape in SHAPES])
    np.testing.assert_allclose(gains.predicted, ratio)
    np.testing.assert_allclose(gains.measured, 2 * ratio)
    assert gains.errors.mape == pytest.approx(0.5)


def test_zeros_that_are_not_skipped_are_counted(write):
    table = rows(pattern="2:10")
    (record,) = to_dict(validate(write("measured_gemm.csv", table)))["sets"]
    assert record["ran_dense"] == 4


def test_rows_without_a_machine_are_counted(write):
    report = validate(write("measured_gemm.csv", rows() + [r | {"device": "Abacus"} for r in rows()]))
    assert [(left.reason, left.rows) for left in report.left_out] == [("no architecture file for 'Abacus'", 4)]
    assert report.sets[0].errors.points == 4
    report = validate(write("measured_gemm.csv", [r | {"device": "v100_sxm2", "dtype": "fp8"} for r in rows()]))
    assert not report.sets or report.sets[0].errors.points == 4


def test_names_choose_and_tolerances_bind(write):
    folder = write("measured_gemm.csv", rows((0.1,) * 4) + rows(source_key="other"))
    assert [s.name for s in validate(folder, ["other*"]).sets] == [f"other_{ARCH}_fp16_dense"]
    assert [s.within for s in validate(folder, tolerance=0.09).sets] == [False, True]
    assert [s.within for s in validate(folder, tolerance=0.11).sets] == [True, True]
    assert [s.tolerance for s in validate(folder).sets] == [None, None]
    (folder / "tolerances.yaml").write_text('kind: tolerances\ntolerances: {"own*": {mape: 5, why: "a test"}}\n')
    assert [(s.tolerance, s.within) for s in validate(folder).sets] == [(0.05, False), (None, True)]
    with pytest.raises(UnsupportedError, match="unknown data set 'othr'"):
        validate(folder, ["othr"])


def test_directories_without_tables_are_refused(tmp_path):
    with pytest.raises(NmsimError, match=r"holds none of the tables measured_gemm\.csv"):
        validate(tmp_path)
    with pytest.raises(NmsimError, match="is not a directory"):
        validate(tmp_path / "nowhere")


def test_workloads_are_joined():
    first, second = nmsim.load_workload("resnet9"), nmsim.gemm(64, 64, 64, "2:4")
    both = joined([first, second])
    assert len(both) == len(first) + 1
    for column in ("layer", "kind", "a_pattern", "b_pattern", "stage"):
        expected = [*first.names(column), *second.names(column)]
        assert both.names(column).tolist() == expected
    assert nmsim.simulate(ARCH, both).latency_s == pytest.approx(
        nmsim.simulate(ARCH, first).latency_s + nmsim.simulate(ARCH, second).latency_s
    )


def test_a_board_that_differs_from_its_machine():
    assert machine("NVIDIA A100 80GB PCIe").memories.dram.bandwidth == pytest.approx(1935e9)
    assert machine("NVIDIA_A100_80GB_PCIe").name == ARCH
    assert machine("Tesla_T4").name == "t4"
    assert machine("Abacus") is None


def test_a_library_of_its_own_holds_for_its_data_set_only(write):
    """At a quarter of the rate of its file a machine takes more than twice as long, in that data set alone."""
    folder = write("measured_gemm.csv", rows() + rows(source_key="other"))
    (folder / "libraries.yaml").write_text(
        'kind: libraries\nlibraries: {"other*": {overrides: {cores.mma_efficiency: 0.25}, assumed: "a test"}}\n'
    )
    own, other = validate(folder).sets
    assert own.parts[0].arch.cores.mma_efficiency == 1
    assert other.parts[0].arch.cores.mma_efficiency == 0.25
    assert other.predicted_s.max() > 2 * own.predicted_s.max()


def test_kernels_of_one_data_set_may_have_libraries_of_their_own(write):
    """Layouts stand at the end of a kernel's name (every k here is a power of two), heights of blocks in the notes: one
    data set, predicted in parts."""
    said = [
        *({"kernel": f"cuBLAS {layouts}", "notes": ""} for layouts in ("NN", "TN", "NT", "TN")),
        *({"kernel": "Spatha", "notes": f"V={v} tile"} for v in (64, 128, 64, 32)),
    ]
    table = [row | more for row, more in zip([*rows(), *rows(pattern="2:4")], said, strict=True)]
    directory = write("measured_gemm.csv", table)
    (directory / "libraries.yaml").write_text(
        "kind: libraries\nlibraries:\n"
        '  "own_*_dense_tn_pow2": {overrides: {kernels.dram_efficiency: 0.5}, assumed: "a test"}\n'
        '  "own_*_2:4_spatha_v64": {overrides: {kernels.sparse.tiles: [[64, 64]]}, assumed: "a test"}\n'
    )
    dense, sparse = validate(directory).sets
    assert (dense.errors.points, sparse.errors.points) == (4, 4)
    for data_set, path, own in (
        (dense, ("kernels", "dram_efficiency"), [3, 5]), (sparse, ("kernels", "sparse", "tiles"), [6, 8])
    ):  # fmt: skip
        (part,) = (
            part for part in data_set.parts if path in part.arch.provenance and part.points.lines.tolist() == own
        )
        assert part.arch.provenance[path].kind == "override"
        others = np.concatenate([p.predicted_s / p.points.measured_s for p in data_set.parts if p is not part])
        np.testing.assert_allclose(others, 1)
        assert (part.predicted_s > 1.01 * part.points.measured_s).any()


def test_products_along_k_are_told_apart_by_their_stride(write):
    """Rows along k are k apart, those of A in TN and those of B in TN and NN: 512 and 4096 are powers of two, 1530 and
    2560 are not. In NT nothing lies along k, and nothing is told apart."""
    said = [("TN", 512), ("TN", 1530), ("NN", 2560), ("NN", 4096), ("NT", 4096), ("NT", 2560)]
    table = [row | {"K": k, "kernel": f"cuBLAS {layouts}"} for row, (layouts, k) in zip(rows() * 2, said, strict=False)]
    (found,) = validate(write("measured_gemm.csv", table)).sets
    lines = {part.points.kernels: part.points.lines.tolist() for part in found.parts}
    assert lines == {"tn_pow2": [2], "tn": [3], "nn": [4], "nn_pow2": [5], "nt": [6, 7]}


@pytest.mark.parametrize("dtype", ["fp16", "fp32"])
def test_layouts_of_deepbench_have_kernels_of_their_own(dtype):
    """Its products are added to C in every layout. Of what lies along k, in NN B and in TN both, cores get less, but in
    fp16 where k is a power of two."""
    (found,) = validate(names=[f"deepbench_t4_{dtype}_dense"]).sets
    limits = {part.points.kernels: set(part.arch.kernels.along_k) for part in found.parts}
    pow2 = dtype == "fp16"
    assert limits == {
        "nt": set(), "nn": {"b"}, "tn": {"a", "b"},
        "nn_pow2": set() if pow2 else {"b"}, "tn_pow2": set() if pow2 else {"a", "b"},
    }  # fmt: skip
    assert {part.arch.kernels.c_passes for part in found.parts} == {2}


@pytest.mark.parametrize(("speedup", "within"), [(40, False), (60, True)])
def test_speed_ups_have_a_tolerance_of_their_own(write, speedup, within):
    """Stated dense times twice the predicted ones: the measured gain is twice the predicted one, 50 % off."""
    table = [
        row | {"dense_ref_time_us": repr(2e6 * seconds(*shape))}
        for row, shape in zip(rows(pattern="2:4"), SHAPES, strict=True)
    ]
    directory = write("measured_gemm.csv", table)
    (directory / "tolerances.yaml").write_text(
        f'kind: tolerances\ntolerances: {{"own_*": {{mape: 1, speedup: {speedup}, why: "a test"}}}}\n'
    )
    report = validate(directory)
    assert [s.within for s in report.sets] == [True]
    assert [g.within for g in report.gains] == [within]
    assert report.within == within


def test_every_device_of_the_file_has_its_machine():
    for name in read(DATA / "devices.yaml").data["devices"]:
        assert machine(name) is not None, name


@pytest.fixture(scope="module")
def shipped():
    return validate()


def test_the_documented_errors_are_those_of_today(shipped):
    """The table of docs/validation.md to its last digit, and which sets it and README.md say to miss their targets."""
    root = DATA.parents[2]
    text = (root / "docs" / "validation.md").read_text(encoding="utf-8")
    lines = text.partition("## Errors")[2].partition("##")[0].splitlines()
    told = [cells for cells in ([x.strip() for x in line.strip("|").split("|")] for line in lines) if len(cells) == 8]
    expected = [
        [
            s.name, f"{s.errors.points}", f"{100 * s.errors.mape:.1f}", f"{100 * s.errors.bias:+.1f}",
            f"{100 * s.roof_errors.mape:.1f}", f"{100 * s.tolerance:.3g}{'' if s.within else ' **miss**'}",
        ]
        for s in shipped.sets
    ]  # fmt: skip
    assert sorted([x[0], x[1], *x[3:7]] for x in told[2:]) == sorted(expected)
    missed = f"{sum(not s.within for s in shipped.sets)} of {len(shipped.sets)}"
    assert missed in text
    assert missed in (root / "README.md").read_text(encoding="utf-8")


def test_every_shipped_row_is_scored_or_counted(shipped):
    """A convolution has three times; every other row one."""
    for name in TABLES:
        with (DATA / name).open(newline="") as stream:
            lines = sum(1 for _ in csv.DictReader(stream))
        scored = sum(p.points.file.endswith(name) * len(p.points) for s in shipped.sets for p in s.parts)
        left = sum(entry.rows for entry in shipped.left_out if entry.file.endswith(name))
        assert scored + left == lines * (3 if "conv" in name else 1)


def test_every_machine_of_the_shipped_tables_has_a_colour_of_its_own(shipped):
    machines = {name for s in shipped.sets for name in s.arches}
    assert len(machines) <= len(set(COLOURS)) == len(COLOURS)


def test_every_shipped_row_is_cited(shipped):
    """Tables of projects under MIT, BSD and Apache licences, at a commit; no figure read off a plot."""
    projects = (
        "UDC-GAC/venom", "baidu-research/DeepBench", "PrincetonUniversity/LLMCompass", "deepseek-ai/DeepGEMM",
        "ROCm/hipBLASLt", "sitar-lab/NeuSight", "pytorch/ao", "tile-ai/tilelang", "calgaryml/condensed-sparsity",
    )  # fmt: skip
    for name in TABLES:
        with (DATA / name).open(newline="") as stream:
            for row in csv.DictReader(stream):
                assert row["source"].startswith(projects)
                assert "@" in row["source"]
                assert row.get("quality") != "C"
    assert sum(path.stat().st_size for path in DATA.iterdir()) < 400_000


def test_the_roofline_is_fitted_to_the_points_that_are_scored(shipped):
    for s in shipped.sets:
        assert len(s.measured_s) == len(s.predicted_s) == len(s.roof.seconds) == s.errors.points
        assert s.roof_errors.mape < 3
        assert np.all(s.predicted_s > 0)


def test_totals_are_means_over_points(shipped):
    for total in totals(shipped):
        sets = [s for s in shipped.sets if s.table == total["table"]]
        measured, predicted = (np.concatenate([getattr(s, x) for s in sets]) for x in ("measured_s", "predicted_s"))
        assert total["mape"] == pytest.approx(float(np.abs(predicted / measured - 1).mean()))


def test_a_device_may_be_a_file_of_ones_own(write, tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text((DATA.parents[2] / "arch_configs" / f"{ARCH}.yaml").read_text())
    (found,) = validate(write("measured_gemm.csv", rows(device=str(mine)))).sets
    assert found.errors.mape == pytest.approx(0, abs=1e-12)


def test_a_table_without_rows_has_no_points(tmp_path):
    for name, (columns, _) in TABLES.items():
        (tmp_path / name).write_text(",".join(columns) + "\n")
    assert validate(tmp_path).sets == ()
