"""`nmsim explain`: what a name in a result, a list or a table means."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from nmsim import library
from nmsim.cli.parser import word
from nmsim.errors import UnsupportedError, unknown

RECIPES = "workloads/recipes"
TABLES = "arch_configs/energy"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    parser.add_argument(
        "name",
        type=word,
        metavar="NAME",
        help="a stage, a label that run prints, or a name from `nmsim list metrics`, `causes`, `components`, "
        "`recipes`, `energy`",
    )


def execute(args: argparse.Namespace) -> int:
    """Print every meaning of the name."""
    from nmsim.report.tables import table

    meanings = list(_meanings(args.name))
    if not meanings:
        raise UnsupportedError(
            unknown("metric, label, stage, cause, component, recipe or energy table", args.name, _names())
        )
    texts = [f"{args.name} ({kind})\n{table(facts.items())}" for kind, facts in meanings]
    print("\n\n".join(texts))
    return 0


def _meanings(name: str) -> Iterator[tuple[str, dict[str, str]]]:
    """What the name stands for, and the facts about each: some names are a cause and a component."""
    from nmsim.energy.account import COMPONENTS
    from nmsim.engines.timing import CAUSES
    from nmsim.report.summary import STAGE_MEANINGS
    from nmsim.results.metrics import METRICS

    if metric := METRICS.get(_labels().get(name, name)):
        yield (
            f"metric {metric.name}" if name in _labels() else "metric",
            {"is": metric.meaning, "unit": metric.unit, "formula": metric.formula},
        )
    if name in CAUSES:
        formula = "what this bound adds to the latency that the causes before it leave (`nmsim list causes`)"
        yield "cause of latency", {"is": CAUSES[name], "unit": "cycles", "formula": formula}
    if name in COMPONENTS:
        formula = "static power x latency" if name == "static" else "actions x energy per action"
        yield "component of energy", {"is": COMPONENTS[name], "unit": "J", "formula": formula}
    if name in STAGE_MEANINGS:
        yield "stage of a training step", {"is": STAGE_MEANINGS[name]}
    if name in library.names(RECIPES):
        yield "recipe", _recipe(name)
    if name in library.names(TABLES):
        yield "energy table", _energy_table(name)


def _energy_table(name: str) -> dict[str, str]:
    """Picojoules of every action at some nodes, and the interval of the last."""
    from nmsim.energy.table import NODES, at_nodes

    facts = {"pJ": "".join(f"{1e9 * node:>5.0f} nm" for node in NODES) + "  90 % interval"}
    for action, costs in at_nodes(name).items():
        values = "".join(f"{1e12 * cost.joules:>8.3g}" for cost in costs)
        last, factor = 1e12 * costs[-1].joules, 1 + costs[-1].uncertainty
        facts[action] = f"{values:<{8 * len(NODES)}}  ({last / factor:.3g}–{last * factor:.3g})"
    facts["file"] = f"{TABLES}/{name}.yaml"
    return facts


def _recipe(name: str) -> dict[str, str]:
    """What there is to say of a recipe of the library."""
    from nmsim.sparsity.recipe import get_recipe
    from nmsim.sparsity.words import bounds, schedule, stages

    recipe = get_recipe(name)
    facts = {"is": recipe.title, **stages(recipe), **bounds(recipe), "schedule": schedule(recipe)}
    facts |= {"paper": recipe.paper, "source": recipe.source, "note": recipe.note}
    facts["file"] = f"workloads/recipes/{name}.yaml"
    return {what: text for what, text in facts.items() if text}


def _labels() -> dict[str, str]:
    """The metric behind each label of a table that is not its name."""
    from nmsim.report.summary import NAMES

    return {label: metric for metric, label in NAMES.items() if label != metric}


def _names() -> list[str]:
    from nmsim.energy.account import COMPONENTS
    from nmsim.engines.timing import CAUSES
    from nmsim.report.summary import STAGE_MEANINGS
    from nmsim.results.metrics import METRICS

    files = [*library.names(RECIPES), *library.names(TABLES)]
    return list(dict.fromkeys([*METRICS, *_labels(), *STAGE_MEANINGS, *CAUSES, *COMPONENTS, *files]))
