"""`nmsim trace`: what a recorded training run did, and whether its record obeys every law."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nmsim.traces.schema import Trace

SHOWN = 10
"""Evaluations and phases that a table shows at most."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    parser.add_argument("action", choices=("show", "verify"), help="summarise a trace, or check it against every law")
    parser.add_argument("file", metavar="FILE", help="the trace of a training run")
    parser.add_argument("--json", action="store_true", help="print JSON")


def execute(args: argparse.Namespace) -> int:
    """Load the trace; show: print what it holds; verify: print the broken laws, exit 1 if there are any."""
    from nmsim.traces.io import load_trace

    trace = load_trace(args.file)
    return _show(trace, args.json) if args.action == "show" else _verify(trace, args.file, args.json)


def _show(trace: Trace, as_json: bool) -> int:
    from nmsim.results.io import dump
    from nmsim.traces.summary import to_dict

    data = to_dict(trace)
    if as_json:
        sys.stdout.write(dump(data))
    else:
        print(trace_text(data))
    return 0


def _verify(trace: Trace, file: str, as_json: bool) -> int:
    from nmsim.report.tables import printable
    from nmsim.results.io import dump
    from nmsim.traces.verify import LAWS, verify

    broken = verify(trace)
    if as_json:
        sys.stdout.write(dump({"file": file, "ok": not broken, "broken": broken, "digest": trace.digest}))
    elif broken:
        print(*(printable(f"{file}: {message}") for message in broken), sep="\n")
    else:
        checks = sum(int(values.sum()) for values in trace.checked.values())
        print(f"ok: {file} ({trace.steps:,} steps, {len(trace.executed):,} ops, {checks:,} checks, {len(LAWS)} laws)")
    return 1 if broken else 0


def trace_text(data: Mapping[str, Any]) -> str:
    """The tables of a trace's summary, each under its title."""
    from nmsim.report.tables import table

    plain = [(key, value) for key, value in data["info"].items() if not isinstance(value, dict | list)]
    facts = [
        *plain,
        ("steps", f"{data['steps']:,}"),
        ("checked every", data["check_every"]),
        ("digest", data["digest"]),
    ]
    texts = [f"Run\n{table([(key, value) for key, value in dict(facts).items()])}"]
    if left := data["info"].get("left_dense"):
        texts.append(f"Left dense\n{table([(layer, why) for layer, why in left.items()])}")
    for title, part, align, limit in (
        ("Phases", "phases", "lrrr", SHOWN), ("Executed", "stages", "lrrrr", None),
        ("Evaluations", "evaluations", "rrrrr", SHOWN), ("Densities", "densities", "lllllrrrr", None),
    ):  # fmt: skip
        if rows := data[part]:
            kept = _some(rows, limit or len(rows))
            title += f" ({len(kept)} of {len(rows):,})" if len(kept) < len(rows) else ""
            cells = [[_cell(name, value) for name, value in row.items()] for row in kept]
            headers = [name.replace("_", " ") for name in rows[0]]
            texts.append(f"{title}\n{table(cells, headers=headers, align=align)}")
    return "\n\n".join(texts)


def _some(rows: Sequence[Mapping[str, Any]], limit: int) -> list[Mapping[str, Any]]:
    """At most `limit` rows, evenly spread, the first and the last among them."""
    if len(rows) <= limit:
        return list(rows)
    return [rows[i * (len(rows) - 1) // (limit - 1)] for i in range(limit)]


def _cell(name: str, value: Any) -> str:
    from nmsim.report.tables import prefixed, shorten

    if value is None:
        return "-"
    if name == "macs_dense":
        return prefixed(value, "MAC") if value else "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else shorten(str(value), 28)
