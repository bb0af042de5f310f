"""`nmsim plot`: one picture of a kind, as PNG or SVG."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from nmsim.cli import plot_inputs as inputs
from nmsim.cli.parser import one_of, pair, whole_or_none, word
from nmsim.cli.run import add_work
from nmsim.errors import UnsupportedError, unknown

if TYPE_CHECKING:
    from nmsim.report.figures import Picture

GENERATED = 64, 128
"""Shape of a generated weight."""


@dataclass(frozen=True)
class Kind:
    """A kind of picture: what it shows, its inputs in words and an example, the options it takes beside `-o`."""

    draw: Callable[[argparse.Namespace], Picture]
    shows: str
    inputs: str
    example: str
    options: tuple[str, ...] = ()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    parser.add_argument("kind", type=one_of("kind of plot", KINDS), metavar="KIND", help="see below")
    parser.add_argument("inputs", type=word, nargs="+", metavar="INPUT", help="what the kind takes, see below")
    parser.add_argument("-o", "--output", type=word, required=True, metavar="FILE", help="a .png or .svg to write")
    parser.add_argument("--title", type=word, metavar="T", help="a title in place of the plot's own")
    look = parser.add_argument_group("of some kinds")
    look.add_argument("--by", choices=("cause", "stage"), help="layers: what bars are split by (cause)")
    look.add_argument("--patterns", type=word, metavar="P,P…", help=f"speedup: the patterns to try ({inputs.PATTERNS})")
    look.add_argument("--x", type=word, metavar="COLUMN", help="pareto, heatmap: the column along x")
    look.add_argument("--y", type=word, metavar="COLUMN", help="pareto, heatmap: the column along y")
    look.add_argument("--value", type=word, metavar="COLUMN", help="heatmap: the column that colours show")
    look.add_argument("--series", type=word, metavar="COLUMN", help="pareto, speedup: a colour per value of it")
    look.add_argument("--label", type=word, metavar="COLUMN", help="pareto: names the points of the front")
    look.add_argument("--more", type=word, action="append", metavar="COLUMN", help="pareto: more of it is better")
    look.add_argument("--less", type=word, action="append", metavar="COLUMN", help="pareto: less of it is better")
    look.add_argument(
        "--where", type=pair, action="append", metavar="COLUMN=VALUE",
        help="pareto, heatmap, speedup: only these rows; may be repeated",
    )  # fmt: skip
    look.add_argument("--array", type=word, metavar="NAME", help="mask: the array of an .npz file")
    look.add_argument("--axis", type=int, choices=(0, 1), help="mask: the axis along which groups run (1)")
    look.add_argument("--seed", type=whole_or_none, metavar="S", help="mask: seed of the generated weight (0)")
    parser.add_argument(
        "--set", type=pair, action="append", metavar="PATH=VALUE", dest="overrides",
        help="of a simulation: replace a number of the machine; may be repeated",
    )  # fmt: skip
    add_work(parser)
    lines = (f"  {name:9} {kind.shows}\n{'':12}nmsim plot {name} {kind.example}" for name, kind in KINDS.items())
    parser.epilog = "kinds, with an example each:\n" + "\n".join(lines)


def execute(args: argparse.Namespace) -> int:
    """Draw the kind asked for and write it."""
    from nmsim.report.figures import format_of, save

    format_of(args.output)
    kind = KINDS[args.kind]
    _refuse_options(args, kind)
    try:
        picture = kind.draw(args)
    except inputs.WrongInputsError as error:
        example = f"as in: nmsim plot {args.kind} {kind.example}"
        raise UnsupportedError(f"{args.kind} takes {kind.inputs}, {error}; {example}") from None
    save(picture, args.output)
    print(f"nmsim: wrote {args.output}", file=sys.stderr)
    return 0


WORK = ("recipe", "pattern", "batch", "seq_len", "phase", "context", "dtype", "weight_dtype", "weight_group",
        "optimizer", "steps", "keep_dense", "overrides")  # fmt: skip
ROWS = ("where",)
_DEFAULTS: tuple[tuple[str, object], ...] = (("batch", 1), ("phase", "prefill"), ("seq_len", []))
_ALWAYS = ("kind", "inputs", "output", "title")


def _refuse_options(args: argparse.Namespace, kind: Kind) -> None:
    """Raise UnsupportedError for an option that the kind has no use for."""
    for name, value in vars(args).items():
        given = value is not None and (name, value) not in _DEFAULTS
        if given and name not in (*kind.options, *_ALWAYS):
            option = "--set" if name == "overrides" else f"--{name.replace('_', '-')}"
            users = [k for k, other in KINDS.items() if name in other.options]
            raise UnsupportedError(f"{option} is for {', '.join(users)}; {args.kind} takes {kind.inputs}")


def _layers(args: argparse.Namespace) -> Picture:
    from nmsim.report.plots import plot_latency

    return _titled(plot_latency(inputs.simulated(args), args.by or "cause"), args)


def _roofline(args: argparse.Namespace) -> Picture:
    from nmsim.report.plots import plot_roofline

    return _titled(plot_roofline(inputs.simulated(args)), args)


def _timeline(args: argparse.Namespace) -> Picture:
    from nmsim.engines.event.result import EventResult
    from nmsim.report.timeline import plot_timeline

    return _titled(plot_timeline(cast(EventResult, inputs.simulated(args, "event"))), args)


def _power(args: argparse.Namespace) -> Picture:
    from nmsim.engines.event.result import EventResult
    from nmsim.report.power import plot_power

    return _titled(plot_power(cast(EventResult, inputs.simulated(args, "event"))), args)


def _energy(args: argparse.Namespace) -> Picture:
    from nmsim.report.plots import plot_energy

    if all(inputs.is_saved(text) for text in args.inputs):
        from nmsim.results.io import load

        return _titled(plot_energy({name: load(path) for name, path in _named(args.inputs).items()}), args)
    result = inputs.simulated(args)
    return _titled(plot_energy({result.arch.name: result}), args)


def _speedup(args: argparse.Namespace) -> Picture:
    from nmsim.report.plots import plot_speedup

    if len(args.inputs) == 1:
        return plot_speedup(inputs.rows(args), args.series, args.title or "")
    if args.series or args.where:
        raise UnsupportedError("--series and --where are for rows of a table; machines are series of their own")
    rows, title = inputs.speedups(args)
    return plot_speedup(rows, "arch", args.title or title)


def _pareto(args: argparse.Namespace) -> Picture:
    from nmsim.report.plots import plot_pareto

    x, y = inputs.columns(args, "x", "y")
    more = dict.fromkeys(args.more or [], True) | dict.fromkeys(args.less or [], False)
    if other := [name for name in more if name not in (x, y)]:
        raise UnsupportedError(unknown("column of --more or --less", other[0], (x, y)))
    title, rows = args.title or "", inputs.rows(args)
    return plot_pareto(rows, x, y, args.series, args.label, title, more.get(x), more.get(y))


def _heatmap(args: argparse.Namespace) -> Picture:
    from nmsim.report.plots import plot_heatmap

    x, y, value = inputs.columns(args, "x", "y", "value")
    return plot_heatmap(inputs.rows(args), x, y, value, args.title or "")


def _training(args: argparse.Namespace) -> Picture:
    from nmsim.report.plots import plot_training
    from nmsim.traces.io import load_trace

    if odd := [path for path in args.inputs if not path.endswith(".npz")]:
        raise inputs.WrongInputsError(f"not {odd[0]!r}")
    traces = {name: load_trace(path) for name, path in _named(args.inputs).items()}
    info = next(iter(traces.values())).info
    title = f"{info['model']} by {info['recipe']} {info['pattern']}" if len(traces) == 1 else ""
    return plot_training(traces, args.title or title)


def _mask(args: argparse.Namespace) -> Picture:
    import numpy as np

    from nmsim.report.plots import plot_mask

    pattern, *files = args.inputs
    if len(files) > 1 or (files and args.seed is not None):
        raise inputs.WrongInputsError("not both a file and a seed" if len(files) == 1 else f"not {len(files)} files")
    if files:
        values, title = inputs.array(args, files[0]), Path(files[0]).name + (f": {args.array}" if args.array else "")
    else:
        values = np.random.default_rng(args.seed or 0).standard_normal(GENERATED)
        title = f"a generated weight, normal, seed {args.seed or 0}"
    return plot_mask(values, pattern, 1 if args.axis is None else args.axis, args.title or title)


def _named(paths: Sequence[str]) -> dict[str, str]:
    """The paths by the names of their files or folders where these differ, else by themselves."""
    stems = [Path(path).resolve().stem for path in paths]
    return dict(zip(paths if len(set(stems)) < len(stems) else stems, paths, strict=True))


def _titled(picture: Picture, args: argparse.Namespace) -> Picture:
    if args.title:
        picture.suptitle(args.title, fontsize=9.5, x=0.01, ha="left")
    return picture


_MACHINE = "a machine and a workload with the options of `nmsim run`"
_TABLE = "rows of a sweep (.npz, .parquet or .csv), or another CSV such as ops.csv of `nmsim run -o`"
KINDS = {
    "layers": Kind(
        _layers, "latency of each layer, split by cause or by stage", _MACHINE,
        "sat_vcu1525 resnet18 --batch 128 --recipe bdwp --pattern 2:8 -o layers.png", ("by", *WORK),
    ),
    "energy": Kind(
        _energy, "energy split by component, a bar per result",
        "a machine and a workload, or directories of `nmsim run -o`", "out/dense out/bdwp -o energy.png", WORK,
    ),
    "roofline": Kind(
        _roofline, "products under the dense and the sparse roof of a machine", _MACHINE,
        "a100_sxm4_80gb vit_b16 --batch 8 --pattern 2:4 -o roofline.svg", WORK,
    ),
    "speedup": Kind(
        _speedup, "speed-up over dense against pattern, a line per machine",
        "machines and, last, a workload; or a CSV with the columns pattern and speedup",
        "sat_vcu1525 vegeta_like resnet50 --patterns 2:4,1:4,2:8 -o speedup.png",
        ("patterns", "series", *ROWS, "recipe", "batch", "seq_len", "phase", "context", "dtype", "overrides"),
    ),
    "pareto": Kind(
        _pareto, "rows as points over two columns, with the front of those that no other beats", _TABLE,
        "rows.csv --x latency_s --y energy_j --series pattern -o pareto.png",
        ("x", "y", "series", "label", "more", "less", *ROWS),
    ),
    "heatmap": Kind(
        _heatmap, "a column over two others", _TABLE,
        "rows.csv --x arch.array.rows --y arch.memories.dram.bandwidth --value latency_s -o map.png",
        ("x", "y", "value", *ROWS),
    ),
    "timeline": Kind(
        _timeline, "what every unit of a machine does over time, by the event engine", _MACHINE,
        "sat_vcu1525 resnet9 --batch 32 --recipe bdwp --pattern 2:8 -o timeline.png", WORK,
    ),
    "power": Kind(
        _power, "watts of every unit of a machine over time, by the event engine", _MACHINE,
        "sat_vcu1525 resnet9 --batch 32 --recipe bdwp --pattern 2:8 -o power.png", WORK,
    ),
    "training": Kind(
        _training, "loss, accuracy and mask flips over the steps of training runs",
        "traces of `nmsim train` (.npz)", "run.npz -o training.png",
    ),
    "mask": Kind(
        _mask, "the mask of magnitude of a matrix", "a pattern and, if wanted, a matrix (.npy; .npz with --array)",
        "2:4 -o mask.png", ("array", "axis", "seed"),
    ),
}  # fmt: skip
