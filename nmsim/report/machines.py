"""What a machine can reach: peak rates and memory bandwidth, for lists and rooflines."""

from __future__ import annotations

from nmsim.arch.schema import AnyArch, SystolicArch

USUAL = ("fp16", "bf16", "int8", "fp32")


def peak(arch: AnyArch) -> tuple[str, float]:
    """A data type (fp16 where the machine has it) and the dense multiply-accumulates per second of all units in it."""
    rates = arch.array.macs_per_cycle if isinstance(arch, SystolicArch) else arch.cores.macs_per_cycle
    dtype = next((name for name in USUAL if name in rates), next(iter(rates)))
    if isinstance(arch, SystolicArch):
        units = arch.array.rows * arch.array.columns * arch.array.count
    else:
        units = arch.cores.count
    return dtype, units * rates[dtype] * arch.clock


def dram_bandwidth(arch: AnyArch) -> float:
    """Bytes per second that streams reach."""
    return arch.memories.dram.bandwidth * arch.memories.dram.efficiency
