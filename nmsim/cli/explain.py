"""`nmsim explain`: what a metric, cause or component means."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from nmsim.errors import UnsupportedError, unknown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    parser.add_argument("name", metavar="NAME", help="a name from `nmsim list metrics`, `causes` or `components`")


def execute(args: argparse.Namespace) -> int:
    """Print every meaning of the name."""
    from nmsim.report.tables import table

    meanings = list(_meanings(args.name))
    if not meanings:
        raise UnsupportedError(unknown("metric, cause or component", args.name, _names()))
    texts = [f"{args.name} ({kind})\n{table(facts.items())}" for kind, facts in meanings]
    print("\n\n".join(texts))
    return 0


def _meanings(name: str) -> Iterator[tuple[str, dict[str, str]]]:
    """What the name stands for, and the facts about each: some names are a cause and a component."""
    from nmsim.energy.account import COMPONENTS
    from nmsim.engines.timing import CAUSES
    from nmsim.results.metrics import METRICS

    if metric := METRICS.get(name):
        yield "metric", {"is": metric.meaning, "unit": metric.unit, "formula": metric.formula}
    if name in CAUSES:
        formula = "what this bound adds to the latency that the causes before it leave (`nmsim list causes`)"
        yield "cause of latency", {"is": CAUSES[name], "unit": "cycles", "formula": formula}
    if name in COMPONENTS:
        formula = "static power x latency" if name == "static" else "actions x energy per action"
        yield "component of energy", {"is": COMPONENTS[name], "unit": "J", "formula": formula}


def _names() -> list[str]:
    from nmsim.energy.account import COMPONENTS
    from nmsim.engines.timing import CAUSES
    from nmsim.results.metrics import METRICS

    return list(dict.fromkeys([*METRICS, *CAUSES, *COMPONENTS]))
