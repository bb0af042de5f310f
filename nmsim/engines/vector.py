"""Work that is not a matrix product: element-wise and normalising operations, mask searches, weight updates.

Each takes the longer of its arithmetic on the lanes that do it and of its bytes at DRAM; on a GPU, rows that its
kernels cannot hold are read again (nmsim.engines.rows). A mask search takes a
pruning lane one cycle per element (m per group); without such lanes the vector unit does the comparisons of a
partial selection, n m - n(n+1)/2 per group, each of which takes it `search` operations where groups are
searched. Weight updates take an update lane one cycle per parameter.
"""

from __future__ import annotations

import numpy as np

from nmsim.arch.arithmetic import multiplies_in
from nmsim.arch.capability import mode
from nmsim.arch.schema import AnyArch, SystolicArch, TensorCoreArch
from nmsim.engines.products import BITS
from nmsim.engines.rows import passes
from nmsim.engines.timing import Timing, Waterfall
from nmsim.workloads.optable import DTYPES, ROLES, Workload


def evaluate(arch: AnyArch, work: Workload) -> Timing:
    """Time and traffic of each op of `work`, none of which is a product.

    Kinds that the machine fuses take only the time to read their second operand, if they have one.
    """
    lanes, per_element, compares = _lanes(arch, work)
    elements = work["m"].astype(float) * work["n"] * work["count"]
    fused = work.is_kind(*arch.vector.fused)
    online = _pruned_in_stream(arch, work)
    free = fused | online
    fall = Waterfall(np.where(free, 0.0, elements * per_element / lanes))
    dram = {name: np.where(online | (fused & (name != "b")), 0.0, x) for name, x in _dram_bytes(arch, work).items()}
    bandwidth = arch.memories.dram.bandwidth * arch.memories.dram.efficiency / arch.clock
    again = np.zeros(len(work))
    if isinstance(arch, TensorCoreArch):
        bandwidth *= arch.vector.dram_efficiency
        missed, again = passes(arch, work, dram)
        dram["a"] = dram["a"] + missed
    fall.resource("dram", (dram["a"] + dram["b"] + dram["c"]) / bandwidth, dram["metadata"] / bandwidth)
    fall.plus("l2", again * arch.clock)
    fall.plus("launch", np.where(free, 0.0, arch.launch.seconds * arch.clock if arch.launch else 0.0))
    prune = _selects(work)
    return Timing(
        fall.causes, dram, plan={"fused": fused, "in_stream": online},
        lane_ops=np.where(prune, 0.0, elements * work["ops_per_element"]), compares=np.where(prune, compares, 0.0),
    )  # fmt: skip


def _lanes(arch: AnyArch, work: Workload) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lanes that do each op, cycles per element and lane, and comparisons of mask searches [ops]."""
    lanes = np.full(len(work), arch.vector.lanes, dtype=float)
    per_element = work["ops_per_element"].astype(float)
    prune, update = _selects(work), work.is_kind("optimizer")
    selection = _comparisons(work)
    per_element = np.where(prune, np.maximum(selection, 1.0) * _per_comparison(arch, work), per_element)
    if isinstance(arch, SystolicArch):
        if arch.reduction_engine is not None:
            lanes = np.where(prune, arch.reduction_engine.lanes, lanes)
            per_element = np.where(prune, 1.0, per_element)
        if arch.update_engine is not None:
            lanes = np.where(update, arch.update_engine.lanes, lanes)
            per_element = np.where(update, 1.0, per_element)
    return lanes, per_element, work["m"].astype(float) * work["n"] * work["count"] * selection


def _per_comparison(arch: AnyArch, work: Workload) -> np.ndarray:
    """Operations per comparison of a mask search [ops]: `search` where groups are searched and packed."""
    grouped = np.array([pattern.has_groups for pattern in work.patterns])[work["a_pattern"]]
    return np.where(grouped, arch.vector.search, 1.0)


def _comparisons(work: Workload) -> np.ndarray:
    """Comparisons per element of a mask search [ops]: n m - n(n+1)/2 per group of m; for a constant fan-in the group
    is the row; for an unstructured pattern one with the threshold."""
    kinds, n, m = (np.array([getattr(p, x) for p in work.patterns])[work["a_pattern"]] for x in ("kind", "n", "m"))
    row = work["n"].astype(float)
    m = np.where(kinds == "fan_in", row, m.astype(float))
    n = np.minimum(n, m)
    return np.where(kinds == "unstructured", 1.0, (n * m - n * (n + 1) / 2) / m)


def _pruned_in_stream(arch: AnyArch, work: Workload) -> np.ndarray:
    """Mask searches that cost no op of their own because the operand is pruned while it streams in [ops]."""
    if arch.sparsity.weights != "inline":
        return np.zeros(len(work), dtype=bool)
    return _selects(work) & (_modes(arch, work)[0] < 1.0)


def _selects(work: Workload) -> np.ndarray:
    """Mask searches that are a plain top-n; others carry their own arithmetic per element [ops]."""
    return work.is_stage("PRUNE") & (work["ops_per_element"] == 0.0)


def _modes(arch: AnyArch, work: Workload) -> tuple[np.ndarray, np.ndarray]:
    """For each mask search, the share of values and the index bytes per element that its result has [ops].

    A searched weight becomes operand B of its product, a gradient or activation operand A.
    """
    share, index = np.ones(len(work)), np.zeros(len(work))
    keys = np.stack([work["a_pattern"], work["a_role"], work["a_dtype"]])
    for key in np.unique(keys[:, work.is_stage("PRUNE")], axis=1).T:
        pattern, role, dtype = work.patterns[key[0]], ROLES[key[1]], DTYPES[key[2]]
        runs, _ = mode(arch, pattern, "k", multiplies_in(arch, dtype, dtype), "B" if role == "weight" else "A")
        rows = (keys == key[:, None]).all(axis=0)
        if not runs.is_dense:
            share[rows], index[rows] = runs.density, runs.density * np.ceil(np.log2(runs.m)) / 8
    return share, index


def _dram_bytes(arch: AnyArch, work: Workload) -> dict[str, np.ndarray]:
    """Bytes of the streams of each op; what a mask search writes is packed if the machine has the mode [ops]."""
    size = {x: work[f"{x}_elements"] * BITS[work[f"{x}_dtype"]] / 8 for x in "abc"}
    prune = work.is_stage("PRUNE") & work.is_kind("prune")
    share, index = _modes(arch, work)
    size["c"] = np.where(prune, size["a"] * share, size["c"])
    return {**size, "metadata": np.where(prune, work["a_elements"] * index, 0.0)}


def pruned_online(work: Workload) -> np.ndarray:
    """Rows [ops] of products with an operand that a PRUNE row of the same layer searches anew during the run."""
    search = work.is_stage("PRUNE")
    width = len(ROLES)
    searched = np.unique(work["layer"][search].astype(np.int64) * width + work["a_role"][search])
    found = np.zeros(len(work), dtype=bool)
    for letter in "ab":
        found |= np.isin(work["layer"].astype(np.int64) * width + work[f"{letter}_role"], searched)
    return found & work.gemms
