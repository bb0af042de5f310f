"""The machines of the library: valid files, a word of provenance for each number, the peak rates they are known by."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from nmsim import library
from nmsim.arch.load import load_arch
from nmsim.arch.schema import SystolicArch, TensorCoreArch
from nmsim.errors import NmsimError
from nmsim.specfile import read

NAMES = library.names("arch_configs")
GPUS = [name for name in NAMES if read(library.find("arch_configs", name)).at(("kind",)) == "tensor_core"]

ML_ENGINEERING = "stas00/ml-engineering compute/accelerator README @744d01e"
A100 = "NVIDIA A100 data sheet, from memory"
V100 = "NVIDIA V100 data sheet, from memory"
T4 = "NVIDIA T4 data sheet, from memory"


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(item, (*path, key))
    else:
        yield path, value


def peak_flops(name: str, dtype: str) -> float:
    arch = load_arch(name)
    if isinstance(arch, TensorCoreArch):
        return 2 * arch.clock * arch.cores.count * arch.cores.macs_per_cycle[dtype]
    array = arch.array
    return 2 * arch.clock * array.count * array.rows * array.columns * array.macs_per_cycle[dtype]


def test_library_has_the_machines_that_the_documentation_names():
    assert set(NAMES) >= {
        "a100_sxm4_40gb", "a100_sxm4_80gb", "example_annotated", "h100_pcie", "h100_sxm5", "h200_sxm", "l4", "mi100",
        "mi210", "p100_sxm2", "rtx3090", "rtx4090", "sat_vcu1525", "systolic_128x128", "systolic_32x32", "t4",
        "tpu_v4_like", "v100_sxm2", "vegeta_like",
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_valid_and_called_as_its_machine(name):
    arch = load_arch(name)
    assert arch.name == name
    assert arch.title
    assert arch.description


@pytest.mark.parametrize("name", NAMES)
def test_every_number_says_where_it_comes_from(name):
    """Each number of the validated machine that the file set has a word and a text; a list has them as a whole."""
    machine = load_arch(name)
    numbers = [
        path
        for path, value in leaves(machine.model_dump(exclude_unset=True))
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    assert len(numbers) > 10
    for path in numbers:
        whole = next((i for i, part in enumerate(path) if isinstance(part, int)), len(path))
        origin = machine.provenance[path[:whole]]
        assert origin.kind in ("source", "assumed", "calibrated"), path
        assert len(origin.text) > 8, path


@pytest.mark.parametrize(
    ("name", "dtype", "tera", "tolerance", "source"),
    [
        ("a100_sxm4_40gb", "fp16", 312, 0.5, ML_ENGINEERING),
        ("a100_sxm4_80gb", "fp16", 312, 0.5, ML_ENGINEERING),
        ("a100_sxm4_40gb", "bf16", 312, 0.5, A100),
        ("a100_sxm4_40gb", "tf32", 156, 0.5, A100),
        ("a100_sxm4_40gb", "int8", 624, 0.5, A100),
        ("a100_sxm4_40gb", "int4", 1248, 2.0, f"{A100}: four times a rounded 312"),
        ("a100_sxm4_40gb", "fp32", 19.5, 0.05, A100),
        ("h100_sxm5", "fp16", 989, 0.5, ML_ENGINEERING),
        ("h100_sxm5", "fp8", 1979, 0.5, ML_ENGINEERING),
        ("h100_pcie", "fp16", 756, 0.5, ML_ENGINEERING),
        ("h100_pcie", "fp8", 1513, 0.5, ML_ENGINEERING),
        ("h200_sxm", "fp16", 989, 0.5, ML_ENGINEERING),
        ("h200_sxm", "fp8", 1979, 0.5, ML_ENGINEERING),
        ("rtx3090", "fp16", 71.2, 0.05, "NVIDIA GA102 whitepaper, from memory, FP32 accumulate"),
        ("rtx4090", "fp16", 165.2, 0.05, "NVIDIA Ada whitepaper, from memory, FP32 accumulate"),
        ("v100_sxm2", "fp16", 125, 0.5, V100),
        ("v100_sxm2", "fp32", 15.7, 0.05, V100),
        ("t4", "fp16", 65, 0.5, T4),
        ("t4", "int8", 130, 0.5, T4),
        ("t4", "int4", 260, 0.6, T4),
        ("t4", "fp32", 8.1, 0.05, T4),
        ("l4", "fp16", 121, 0.5, "NVIDIA L4 data sheet, from memory"),
        ("l4", "fp8", 242, 0.5, "NVIDIA L4 data sheet, from memory"),
        ("l4", "fp32", 30.3, 0.05, "NVIDIA L4 data sheet, from memory"),
        ("p100_sxm2", "fp32", 10.6, 0.05, "NVIDIA Tesla P100 whitepaper, from memory"),
        ("p100_sxm2", "fp16", 21.2, 0.05, "NVIDIA Tesla P100 whitepaper, from memory"),
        ("mi100", "fp16", 184.6, 0.1, "AMD Instinct MI100 data sheet, from memory"),
        ("mi100", "fp32", 46.1, 0.1, "AMD Instinct MI100 data sheet, from memory"),
        ("mi210", "fp16", 181, 0.5, "AMD Instinct MI210 data sheet, from memory"),
        ("tpu_v4_like", "bf16", 275, 0.5, ML_ENGINEERING),
        ("sat_vcu1525", "fp16", 0.4096, 1e-9, "1024 units x 2 x 200 MHz, from assumed numbers"),
    ],
)
def test_the_peak_rate_is_the_published_one(name, dtype, tera, tolerance, source):
    """Units x rate x clock x 2 is the published figure, to the digits that the figure is published with."""
    assert peak_flops(name, dtype) / 1e12 == pytest.approx(tera, abs=tolerance), source


@pytest.mark.parametrize(
    ("name", "read_gb_s", "source"),
    [
        ("a100_sxm4_40gb", 1500, "RRZE-HPC/gpu-benches @1038c5d"),
        ("a100_sxm4_80gb", 1776, "RRZE-HPC/gpu-benches @1038c5d"),
        ("h100_pcie", 1942, "RRZE-HPC/gpu-benches @1038c5d"),
        ("h200_sxm", 3888, "RRZE-HPC/gpu-benches @1038c5d"),
        ("mi210", 1397, "RRZE-HPC/gpu-benches @1038c5d"),
        ("rtx4090", 930, "Luo et al. arXiv 2402.13499"),
    ],
)
def test_dram_streams_at_the_measured_rate(name, read_gb_s, source):
    """Peak x efficiency is the bandwidth read, to the three digits of the efficiency."""
    dram = load_arch(name).memories.dram
    assert dram.bandwidth * dram.efficiency / 1e9 == pytest.approx(read_gb_s, rel=1e-3), source


@pytest.mark.parametrize("name", GPUS)
def test_sparse_modes_are_2_4_since_ampere_and_none_before(name):
    arch = load_arch(name)
    if name in ("p100_sxm2", "v100_sxm2", "t4", "mi100", "mi210"):
        assert arch.sparsity.patterns == []
    else:
        assert arch.sparsity.patterns == ["2:4"]
        assert arch.sparsity.operands == ["A", "B"]
        assert set(arch.sparsity.dtypes) <= set(arch.cores.macs_per_cycle) - {"fp32"}


@pytest.mark.parametrize("name", GPUS)
def test_two_stages_of_the_largest_tile_fit_into_shared_memory(name):
    """A main loop needs the operands of one step while it loads the next: 2 (m + n) k_step fp16 values."""
    arch = load_arch(name)
    largest = max(m + n for m, n in arch.kernels.tiles)
    assert 2 * largest * arch.kernels.k_step * 2 <= arch.cores.shared_memory


@pytest.mark.parametrize("name", GPUS)
def test_a_gpu_is_balanced_as_gpus_are(name):
    """L2 is faster than DRAM, and each core does at least one fp32 operation per vector lane and cycle."""
    arch = load_arch(name)
    assert arch.memories.l2.bandwidth > arch.memories.dram.bandwidth
    assert arch.vector.lanes % arch.cores.count == 0
    assert arch.vector.lanes // arch.cores.count in (64, 128)


def test_sat_says_which_of_its_numbers_are_not_from_the_paper():
    """Only the lanes of the reduction engine are known, and those at second hand."""
    machine = load_arch("sat_vcu1525")
    cited = {path for path, origin in machine.provenance.items() if origin.kind == "source"}
    assert cited == {("reduction_engine", "lanes")}
    assert len(machine.assumptions) == len(machine.provenance) - 1
    memory = [path for path, origin in machine.provenance.items() if "from memory" in origin.text]
    assert {("clock",), ("array", "rows"), ("array", "columns"), ("memories", "dram", "bandwidth")} <= set(memory)


def test_sat_feeds_2_8_at_full_rate():
    """32 rows take 4 fp16 values a cycle, 32 columns one and its 3-bit index: 256 + 64 + 12 = 332 bytes."""
    arch = load_arch("sat_vcu1525")
    need = 32 * 4 * 2 + 32 * (2 + 3 / 8)
    assert need <= arch.array.operand_port < need + 16


def test_sat_buffers_fit_its_fpga():
    """2,160 BRAM of 36 Kbit and 960 URAM of 288 Kbit (XCVU9P)."""
    memories = load_arch("sat_vcu1525").memories
    device = (2160 * 36 + 960 * 288) * 1024 / 8
    assert memories.a_buffer + memories.b_buffer + memories.c_buffer <= device


def test_vegeta_feeds_1_4_at_full_rate():
    """32 rows take 4 bf16 values a cycle, 16 columns one and its 2-bit index: 256 + 32 + 4 = 292 bytes."""
    arch = load_arch("vegeta_like")
    need = 32 * 4 * 2 + 16 * (2 + 2 / 8)
    assert need <= arch.array.operand_port < need + 16
    assert arch.sparsity.patterns == ["1:4", "2:4"]
    assert arch.sparsity.operands == ["B"]


def test_the_annotated_example_shows_every_key():
    """A reader of the example has seen all that a systolic machine can say."""
    shown = load_arch("example_annotated").model_dump(exclude_unset=True)
    assert set(keys_of(SystolicArch)) == set(keys_in(shown, SystolicArch))


def keys_of(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, field in model.model_fields.items():
        yield (*path, name)
        for part in (field.annotation, *get_args(field.annotation)):
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from keys_of(part, (*path, name))


def keys_in(data: dict[str, Any], model: type[BaseModel]) -> Iterator[tuple[str, ...]]:
    known = set(keys_of(model))
    for path, _ in leaves(data):
        words = tuple(part for part in path if isinstance(part, str))
        yield from (words[:end] for end in range(1, len(words) + 1) if words[:end] in known)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((None,), "expected the name of a file of arch_configs/, or a path; got None"),
        (("sat_vcu1525", 3), "overrides map paths"),
        (("sat_vcu1525", {3: 4}), "overrides map paths"),
        (("sat_vcu1525", {"clok": "1 GHz"}), "^override clok=1 GHz: clok: unknown field"),
        (("sat_vcu1525", {"memories.c_buffer": "1 B"}), r"\(with override memories.c_buffer=1 B\)$"),
    ],
)
def test_bad_arguments_are_refused(words, message):
    with pytest.raises(NmsimError, match=message):
        load_arch(*words)
