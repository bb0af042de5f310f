"""The laws every result obeys, over random products and whole training steps, on every machine that ships."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
import pytest

import nmsim
from nmsim import library
from nmsim.arch.schema import AnyArch, CpuArch, SystolicArch, TensorCoreArch
from nmsim.results.result import Result
from nmsim.sparsity.pattern import Pattern
from nmsim.workloads.optable import Workload

MACHINES = library.names("arch_configs")
ROUNDING = 1e-12
"""Relative room for the last bits of floating-point sums."""


@cache
def machine(name: str) -> AnyArch:
    return nmsim.load_arch(name)


def changed(name: str, path: str, factor: float) -> AnyArch:
    """The machine with one number multiplied."""
    arch = machine(name)
    *parents, last = path.split(".")
    owners = [arch]
    for parent in parents:
        owners.append(getattr(owners[-1], parent))
    value = getattr(owners[-1], last)
    new = owners[-1].model_copy(update={last: type(value)(value * factor)})
    for owner, parent in zip(reversed(owners[:-1]), reversed(parents), strict=True):
        new = owner.model_copy(update={parent: new})
    return new


def random_products(seed: int, pattern: str = "", operand: str = "", size: int = 300) -> Workload:
    """Products of every shape: tiny, skinny, large, batched; sizes that divide nothing among them."""
    rng = np.random.default_rng(seed)
    m, n, k = (np.round(2 ** rng.uniform(0, 13, size)).astype(int) for _ in range(3))
    patterns = ["dense", "1:2", "2:4", "1:4", "4:8", "2:8", "1:8", "3:7", "2:16", "64:2:8", "unstructured:0.3"]
    return nmsim.gemms(
        {
            "m": m, "n": n, "k": k, "count": rng.choice([1, 1, 1, 12], size),
            "pattern": [pattern] * size if pattern else rng.choice(patterns, size),
            "operand": [operand] * size if operand else rng.choice(["A", "B"], size),
            "dtype": ["fp16"] * size,
        }
    )  # fmt: skip


@cache
def training_step(recipe: str, pattern: str) -> Workload:
    return nmsim.load_workload("resnet18_64_s7", batch=3).training(recipe, pattern)


WORKLOADS = {
    "products": lambda: random_products(1),
    "dense step": lambda: training_step("dense", "dense"),
    "bdwp step": lambda: training_step("bdwp", "2:8"),
    "sdgp step": lambda: training_step("sdgp", "2:4"),
    "srste step": lambda: training_step("srste", "2:4"),
}


@pytest.fixture(params=[(m, w) for m in MACHINES for w in WORKLOADS], ids=lambda p: f"{p[0]}-{p[1]}", scope="module")
def result(request: pytest.FixtureRequest) -> Result:
    name, work = request.param
    return nmsim.simulate(machine(name), WORKLOADS[work]())


def test_work_is_ordered(result: Result):
    """Law 1: useful <= executed <= padded dense multiply-accumulates; executed + inserted zeros explain the rest."""
    useful, executed, padded = (result.columns[f"macs_{x}"] for x in ("useful", "executed", "padded"))
    assert (useful <= executed * (1 + ROUNDING)).all()
    assert (executed <= padded * (1 + ROUNDING)).all()
    assert (executed[result.workload.gemms] > 0).all()


def test_no_faster_than_any_resource(result: Result):
    """Law 2: latency >= executed / peak and >= bytes / bandwidth at every level; utilization in (0, 1]."""
    latency = result.per_op("latency_s") * (1 + ROUNDING)
    arch, gemms = result.arch, result.workload.gemms
    assert (latency >= result.seconds_at_peak()).all()
    dram = arch.memories.dram
    assert (latency >= result.per_op("dram_bytes") / (dram.bandwidth * dram.efficiency)).all()
    if isinstance(arch, SystolicArch):
        if (port := arch.array.operand_port) is not None:
            into = sum(result.columns[f"buffer.{x}"] for x in ("a", "b", "metadata"))
            assert (latency >= into / (port * arch.array.count * arch.clock)).all()
    else:
        per_core = isinstance(arch, CpuArch)
        l2 = arch.memories.l2.bandwidth * (arch.clock * arch.cores.count if per_core else 1)
        assert (latency >= result.per_op("buffer_bytes") / l2).all()
    utilization = result.per_op("utilization")[gemms]
    assert (utilization > 0).all()
    assert (utilization <= 1 + ROUNDING).all()
    assert 0 < result.utilization <= 1


def test_causes_sum_to_the_latency(result: Result):
    """The time of each op is explained without rest, and no cause is negative."""
    causes = np.array([v for name, v in result.columns.items() if name.startswith("cause.")])
    assert (causes >= 0).all()
    np.testing.assert_allclose(causes.sum(axis=0), result.per_op("cycles"), rtol=ROUNDING)
    assert result.breakdown("cause")["latency_s"].sum() == pytest.approx(result.latency_s, rel=1e-9)


def test_traffic_is_conserved(result: Result):
    """Law 3: every operand is read at least once, in the size that its format has; the roles sum to the total."""
    w, gemms = result.workload, result.workload.gemms
    fused = (
        result.columns["plan.fused"] | result.columns["plan.in_stream"] if "plan.fused" in result.columns else ~gemms
    )
    for stream in "ab":
        times = result.columns[f"dram.{stream}"] / np.maximum(stored_bytes(result, stream), 1)
        assert (times[gemms] >= 1 - 1e-9).all()
    written = result.columns["dram.c"][gemms]
    np.testing.assert_allclose(written, w["c_elements"][gemms] * 2, rtol=0)
    assert (result.columns["dram.a"][fused & ~gemms] == 0).all()
    assert (result.columns["dram.c"][fused & ~gemms] == 0).all()
    assert result.breakdown("operand")["dram_bytes"].sum() == pytest.approx(result.dram_bytes, rel=1e-9)


def stored_bytes(result: Result, stream: str) -> np.ndarray:
    """Least bytes of an operand in DRAM: two bytes a value that products meet, n/m of them if its groups are skipped,
    those that are kept if they are gathered; of an operand opposite a V:n:m one, the 4 of every m that a single block
    keeps. Strided convolutions of one tap do not meet all values."""
    w = result.workload
    met = np.minimum(w[f"{stream}_elements"], w["m" if stream == "a" else "n"] * w["k"] * w["count"])
    elements = np.where((w["taps"] == 1) & isinstance(result.arch, TensorCoreArch), met, w[f"{stream}_elements"])
    kernel = result.columns.get("plan.kernel", np.full(len(w), "dense"))
    grouped, kept = (np.array([x(p) for p in w.patterns])[w[f"{stream}_pattern"]] for x in (_grouped, _kept))
    density = np.where(np.isin(kernel, ["csr", "condensed"]), kept, grouped)
    other = np.array([_block_share(p) for p in w.patterns])[w["b_pattern" if stream == "a" else "a_pattern"]]
    return elements * density * (other if _runs_blocks(result) else 1.0) * 2


def _runs_blocks(result: Result) -> bool:
    return result.arch.sparsity.blocks


def _block_share(pattern: Pattern) -> float:
    return 4 / pattern.m if pattern.kind == "vnm" else 1.0


def _grouped(pattern: Pattern) -> float:
    return pattern.density if pattern.has_groups else 1.0


def _kept(pattern: Pattern) -> float:
    return pattern.density if pattern.kind in ("nm", "vnm", "unstructured") else 1.0


def test_energy_is_the_sum_of_its_parts(result: Result):
    """Law 6: actions times energy per action plus static power times time, part by part."""
    parts = result.breakdown("component")["energy_j"]
    assert parts.sum() == pytest.approx(result.energy_j, rel=1e-9)
    assert (parts >= 0).all()
    assert parts["static"] == pytest.approx(result.arch.energy.static * result.latency_s, rel=1e-9)
    assert parts["dram"] > 0
    assert parts["mac"] > 0


def test_names_its_assumptions(result: Result):
    """Law 8: a number without a source is listed with the result."""
    marked = [path for path, p in result.arch.provenance.items() if p.kind != "source"]
    assert len(result.assumptions) >= len(marked)


FASTER = {
    "clock": 1.7,
    "vector.lanes": 2,
    "memories.dram.bandwidth": 1.5,
    "memories.l2.bandwidth": 1.5,
    "memories.l2.size": 3,
    "memories.l1.size": 3,
    "memories.l1.bandwidth": 1.5,
    "memories.l3.size": 3,
    "memories.l3.bandwidth": 1.5,
    "array.count": 2,
    "array.operand_port": 1.3,
    "cores.count": 1.5,
    "cores.shared_memory_bandwidth": 2,
    "reduction_engine.lanes": 2,
    "update_engine.lanes": 2,
    "memories.a_buffer": 2,
    "memories.b_buffer": 2,
    "memories.c_buffer": 2,
}


def has(name: str, path: str) -> bool:
    """Whether the machine has the number at this path."""
    value = machine(name)
    for part in path.split("."):
        value = getattr(value, part, None)
    return value is not None


@pytest.mark.parametrize(("name", "path"), [(m, p) for m in MACHINES for p in FASTER if has(m, p)])
@pytest.mark.parametrize("work", ["products", "bdwp step"])
def test_more_is_never_slower(name: str, path: str, work: str):
    """Law 4: more bandwidth, more units, more room or a higher clock never makes an op slower."""
    before = nmsim.simulate(machine(name), WORKLOADS[work]()).per_op("latency_s")
    after = nmsim.simulate(changed(name, path, FASTER[path]), WORKLOADS[work]()).per_op("latency_s")
    assert (after <= before * (1 + ROUNDING)).all()


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("operand", ["A", "B"])
@pytest.mark.parametrize("chain", [["dense", "2:4", "1:4"], ["dense", "4:8", "2:8", "1:8"], ["2:4", "2:8", "2:16"]])
def test_sparser_is_never_slower(name: str, operand: str, chain: list[str]):
    """Law 4: a sparser pattern never makes the same op slower on a machine that supports it."""
    latency = [nmsim.simulate(machine(name), random_products(2, p, operand)).per_op("latency_s") for p in chain]
    for denser, sparser in pairwise(latency):
        assert (sparser <= denser * (1 + ROUNDING)).all()


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (2, 8), (4, 8)])
def test_speedup_stays_below_the_bound(name: str, n: int, m: int):
    """Law 5: with d = n/m on equal products, one sparse stage gains at most 3/(2+d), two at most 3/(1+2d).

    (Where only the packed operand fits a buffer or cache, traffic can fall by more than d; not among these.)
    """
    d = n / m
    work = random_products(3, "dense", "B", 200)
    dense = nmsim.simulate(machine(name), work).per_op("latency_s")
    sparse = nmsim.simulate(machine(name), random_products(3, f"{n}:{m}", "B", 200)).per_op("latency_s")
    assert (3 * dense / (2 * dense + sparse) <= 3 / (2 + d) * (1 + ROUNDING)).all()
    assert (3 * dense / (dense + 2 * sparse) <= 3 / (1 + 2 * d) * (1 + ROUNDING)).all()
