"""What is simulated: networks, and machines as changes of `sat_vcu1525`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

MACHINE = "sat_vcu1525"
PATTERN = "2:8"
BATCH = 128

NETWORKS = {
    "ResNet9": "resnet9", "ViT": "vit_cifar", "VGG19": "vgg19", "ResNet18": "resnet18_64_s3", "ResNet50": "resnet50",
}  # fmt: skip
"""The networks of the paper, and the workload that stands for each."""
VARIANTS = {"ViT 7x384": ("ViT", "vit_cifar_384"), "ResNet18 7x7 stem": ("ResNet18", "resnet18_64_s7")}
"""Other readings of two of them, whose exact form is not known."""

OFF: dict[str, dict[str, Any]] = {
    "interleaving": {"array.interleave": 1},
    "pre-generation": {"sparsity.weights": "inline"},
    "scheduling": {"array.scheduling": "fixed"},
}
"""The three optimisations, each by what switches it off; without scheduling every product runs output stationary."""
WS_FIXED = {"array.scheduling": "fixed", "array.dataflows": ["ws", "os"]}

ARRAYS = (8, 16, 32, 64, 128)
BANDWIDTHS = (3.2, 6.4, 12.8, 25.6, 51.2, 76.8, 102.4)
"""GB/s; 25.6 in the machine's file, 76.8 on the board."""

SENSITIVITY: dict[str, tuple[dict[str, Any], int]] = {
    "as assumed": ({}, BATCH),
    "batch 32": ({}, 32),
    "batch 512": ({}, 512),
    "64 vector lanes": ({"vector.lanes": 64}, BATCH),
    "128 vector lanes": ({"vector.lanes": 128}, BATCH),
    "DRAM 76.8 GB/s": ({"memories.dram.bandwidth": "76.8 GB/s"}, BATCH),
    "128 vector lanes, 76.8 GB/s": ({"vector.lanes": 128, "memories.dram.bandwidth": "76.8 GB/s"}, BATCH),
    "operand port 168 B/clk": ({"array.operand_port": "168 B/clk"}, BATCH),
    "adder of 8 cycles, 8 in turn": ({"array.accumulator_latency": 8, "array.interleave": 8}, BATCH),
    "inserted zeros multiplied": ({"array.skips_inserted_zeros": False}, BATCH),
    "buffers halved": (
        {"memories.a_buffer": "2 MiB", "memories.b_buffer": "2 MiB", "memories.c_buffer": "1 MiB"}, BATCH,
    ),
}  # fmt: skip
"""Assumptions of the machine's file and of the study changed one at a time: changes, and the batch."""


@dataclass(frozen=True)
class Point:
    """A network on a changed machine; `study` and `label` say what for."""

    study: str
    label: str
    network: str
    workload: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    batch: int = BATCH


def all_points() -> Iterator[Point]:
    """Every point of the study; each is simulated dense and by BDWP."""
    for label, changes in machines():
        for network, workload in NETWORKS.items():
            yield Point(*label, network, workload, changes)
    for label, (changes, batch) in SENSITIVITY.items():
        for network, workload in NETWORKS.items():
            yield Point("sensitivity", label, network, workload, changes, batch)
    for label, (network, workload) in VARIANTS.items():
        yield Point("sensitivity", label, network, workload)


def machines() -> Iterator[tuple[tuple[str, str], dict[str, Any]]]:
    """Study and label of every changed machine on which all networks run."""
    for number in range(2 ** len(OFF)):
        names = [name for i, name in enumerate(OFF) if number >> i & 1]
        yield ("ablation", ", ".join(names) or "none"), {k: v for name in names for k, v in OFF[name].items()}
    yield ("ablation", "scheduling (ws)"), WS_FIXED
    yield ("ablation", "all (ws)"), {**OFF["interleaving"], **OFF["pre-generation"], **WS_FIXED}
    held = {"reduction_engine.holds_groups": True}
    yield ("ablation", "pre-generation, groups held"), OFF["pre-generation"] | held
    yield ("ablation", "pre-generation, scheduling, groups held"), OFF["pre-generation"] | OFF["scheduling"] | held
    for size in ARRAYS:
        yield ("array", str(size)), array(size)
    for bandwidth in BANDWIDTHS:
        yield ("bandwidth", f"{bandwidth:g}"), {"memories.dram.bandwidth": f"{bandwidth} GB/s"}


def array(size: int) -> dict[str, Any]:
    """A square array; ports and lanes are as wide as it is, as the machine's file assumes; memory stays."""
    lanes = {f"{unit}.lanes": size for unit in ("reduction_engine", "update_engine", "vector")}
    return {"array.rows": size, "array.columns": size, "array.operand_port": f"{336 * size / 32} B/clk", **lanes}
