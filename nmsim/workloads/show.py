"""What a workload shows of itself in a notebook: its operations, the first and the last few."""

from __future__ import annotations

from nmsim.html import block, gapped, some, table
from nmsim.words import prefixed
from nmsim.workloads.optable import STAGES, Workload

HEADERS = ("", "layer", "stage", "kind", "m", "n", "k", "count", "A", "B", "repeat")


def html(work: Workload) -> str:
    """A row per op: sizes and patterns of the products, elements of the rest."""
    facts = [f"{len(work):,} ops", f"{len(work.layers):,} layers", prefixed(work.macs_dense, "MAC, dense")]
    facts += [str(work.info[key]) for key in ("recipe", "pattern") if key in work.info]
    if len(work.phases) > 1:
        facts.append(f"{len(work.phases)} phases")
    shown = some(len(work))
    rows = gapped([_row(work, i) for i in shown], shown)
    return block(work.name, ", ".join(facts), table(rows, HEADERS, "rlllrrrrllr"))


def _row(work: Workload, i: int) -> list[str]:
    names = [work.layers[work["layer"][i]], STAGES[work["stage"][i]], work.kinds[work["kind"][i]]]
    sizes = [f"{work[c][i]:,}" for c in ("m", "n", "k", "count")]
    patterns = [str(work.patterns[work[f"{x}_pattern"][i]]) for x in "ab"]
    return [str(i), *names, *sizes, *("" if p == "dense" else p for p in patterns), f"{work['repeat'][i]:,}"]
