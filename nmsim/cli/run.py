"""`nmsim run`: simulate a model on a machine."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from nmsim.cli.parser import add_formats, amount, length, one_of, pair, whole, whole_or_none, word
from nmsim.errors import UnsupportedError

if TYPE_CHECKING:
    from nmsim.arch.schema import AnyArch
    from nmsim.energy.cost import Tariff
    from nmsim.results.io import Origins
    from nmsim.results.result import Result
    from nmsim.workloads.optable import Workload


PLOTS = ("latency.png", "roofline.png")
"""Names of the plots that `-o` writes."""


TIMELINE = ("timeline.csv", "timeline.trace.json.gz", "power.csv", "timeline.png", "power.png")
"""What `-o` writes of an event simulation: the spans, the same for Perfetto or Chrome, power over time, charts."""

TRACE = ".npz"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    parser.add_argument(
        "arch", type=word, metavar="ARCH", help="a machine: a name from `nmsim list arch`, or a YAML file"
    )
    parser.add_argument(
        "workload",
        type=word,
        metavar="WORKLOAD",
        help="a model: a name from `nmsim list workloads` or a YAML file; a CSV of products; a training trace (.npz)",
    )
    add_work(parser)
    machine = parser.add_argument_group("the machine")
    machine.add_argument(
        "--engine", type=word, default="analytic", metavar="NAME", help="analytic, or event: tile by tile"
    )
    machine.add_argument("--max-tiles", type=whole, metavar="T", help="with --engine event: end after T tiles")
    machine.add_argument(
        "--no-overlap",
        action="store_true",
        help="with --engine event: ops follow each other, none runs beside another (weights are still fetched ahead)",
    )
    machine.add_argument(
        "--set", type=pair, action="append", default=[], metavar="PATH=VALUE", dest="overrides",
        help="replace a number of the machine, as memories.dram.bandwidth='12.8 GB/s', array.dataflows[0]=ws or "
        "array.dataflows='[os, ws]'; may be repeated",
    )  # fmt: skip
    machine.add_argument("--strict", action="store_true", help="fail where the machine cannot skip a pattern")
    machine.add_argument(
        "--schedule", type=word, metavar="FILE", help="run each product as this file says (`nmsim schedule` makes one)"
    )
    money = parser.add_argument_group("what the energy costs")
    money.add_argument("--price-per-kwh", type=amount, metavar="P", help="price of a kilowatt-hour, in any currency")
    money.add_argument("--gco2-per-kwh", type=amount, metavar="G", help="grams of CO2 equivalent a kilowatt-hour")
    money.add_argument("--pue", type=amount, metavar="X", help="what the site draws over what the machine draws (1)")
    output = parser.add_argument_group("output")
    output.add_argument("--top", type=whole_or_none, default=10, metavar="K", help="layers to show (10)")
    output.add_argument(
        "-o",
        "--output",
        type=word,
        metavar="DIR",
        help="write result.json, ops.csv and plots into DIR; with --engine event also a timeline",
    )
    output.add_argument("--no-plots", action="store_true", help="with -o: no plots")
    add_formats(parser, "a row per operation")


def add_work(parser: argparse.ArgumentParser) -> None:
    """The options that say what a workload does: `workload_of` reads them, and `args.workload`."""
    work = parser.add_argument_group("the work")
    work.add_argument(
        "--recipe", type=word, metavar="R", help="train by this recipe (`nmsim list recipes`); without: inference"
    )
    work.add_argument("--pattern", type=word, metavar="N:M", help="sparsity pattern, as 2:8; without: dense")
    work.add_argument("--batch", type=whole, default=1, metavar="B", help="samples per step (1)")
    work.add_argument(
        "--seq-len", type=length, action="append", default=[], metavar="[NAME=]L",
        help="tokens per sample, of all streams or of the one named; may be repeated",
    )  # fmt: skip
    work.add_argument(
        "--phase",
        type=one_of("phase", ("prefill", "decode")),
        default="prefill",
        metavar="P",
        help="prefill, or decode: one token of generation",
    )
    work.add_argument("--context", type=whole, metavar="C", help="with decode: cached tokens attended to")
    work.add_argument(
        "--dtype",
        type=word,
        metavar="T",
        help="data type (fp16; of a trace: its own); of products in CSV: where no column `dtype` gives one",
    )
    work.add_argument(
        "--weight-dtype", type=word, metavar="T", help="of an inference: data type of the weights, int8, int4 or fp8"
    )
    work.add_argument(
        "--weight-group", type=whole, metavar="G",
        help="with --weight-dtype: weights along k that share a scale (without: those of an output channel)",
    )  # fmt: skip
    work.add_argument("--optimizer", type=word, metavar="NAME", help="update rule of a training recipe (sgd_momentum)")
    work.add_argument("--steps", type=whole, metavar="S", help="steps of the run (1)")
    work.add_argument(
        "--keep-dense", type=word, action="append", metavar="GLOB", help="layers to leave dense; may be repeated"
    )


def execute(args: argparse.Namespace) -> int:
    """Simulate, write files, print."""
    from nmsim.arch.load import read_arch
    from nmsim.cli.check import machine
    from nmsim.engines.run import simulate
    from nmsim.report.footprint import notes
    from nmsim.results.io import require_directory

    tariff = _tariff(args)
    if args.output is not None:
        require_directory(args.output)
    arch = machine(read_arch(args.arch, dict(args.overrides), "--set"))
    result = simulate(
        arch, workload_of(args), engine=args.engine, strict=args.strict, schedule=args.schedule, **_engine_options(args)
    )
    origins = _origins(arch)
    found = [*notes(result), *_event_notes(result)]
    if args.schedule is not None:
        found.append(f"every product runs as {args.schedule} says; without --schedule the fastest way is searched")
    if args.output is not None:
        _write(result, origins, found, args)
    for note in found:
        print(f"nmsim: NOTE: {note}", file=sys.stderr)
    _print(result, origins, found, args, tariff)
    return 0


def _tariff(args: argparse.Namespace) -> Tariff:
    from nmsim.energy.cost import Tariff

    if args.pue is not None and args.price_per_kwh is None and args.gco2_per_kwh is None:
        raise UnsupportedError("--pue goes with --price-per-kwh or --gco2-per-kwh")
    return Tariff(args.price_per_kwh, args.gco2_per_kwh, 1.0 if args.pue is None else args.pue)


def _engine_options(args: argparse.Namespace) -> dict[str, object]:
    """What was said to the engine, beyond its name."""
    options: dict[str, object] = {} if args.max_tiles is None else {"max_tiles": args.max_tiles}
    return options | ({"overlap": False} if args.no_overlap else {})


def _event_notes(result: Result) -> list[str]:
    """Of the event engine: whether it reached the end, and why its latency differs from the analytic one."""
    if result.engine == "analytic":
        return []
    from nmsim.engines.event.differences import explained

    return explained(result)


def workload_of(args: argparse.Namespace) -> Workload:
    """The workload that the arguments ask for."""
    from nmsim.workloads.quantized import with_weights

    return with_weights(_in_one_dtype(args), args.weight_dtype, args.weight_group)


def _in_one_dtype(args: argparse.Namespace) -> Workload:
    """The workload before its weights are quantised."""
    from nmsim.sparsity.recipe import at_its_line, get_recipe
    from nmsim.specfile import MisfitError
    from nmsim.workloads.load import CSV, load_workload

    if args.workload.lower().endswith(TRACE):
        from nmsim.traces.io import load_trace

        _refuse_for_table(args, "a trace", "it simulates what the run executed; `nmsim train` makes another")
        return load_trace(args.workload).workload(args.dtype)
    if args.workload.lower().endswith(CSV):
        if args.pattern:
            cure = "give each product its own in a column `pattern`"
            raise UnsupportedError(f"--pattern does not go with a table of products; {cure}")
        cure = "write the sizes of its products out, or a model file (YAML) with layers"
        _refuse_for_table(args, "a table of products", cure)
    recipe = get_recipe(args.recipe or "inference")
    if args.optimizer and not recipe.trains:
        raise UnsupportedError("--optimizer goes with a recipe that trains; give one with --recipe")
    if args.keep_dense and (args.pattern or "dense") == "dense":
        raise UnsupportedError("--keep-dense leaves layers out of a pattern; give one with --pattern")
    seq_len = _seq_len(args.seq_len)
    dtype = args.dtype or "fp16"
    model = load_workload(args.workload, args.batch, seq_len, args.phase == "decode", args.context, dtype)
    chosen = {"steps": args.steps, "optimizer": args.optimizer, "keep_dense": args.keep_dense}
    options = {name: value for name, value in chosen.items() if value is not None}
    if not (args.recipe or args.pattern or options):
        return model
    try:
        return model.training(recipe, args.pattern or "dense", dtype=dtype, **options)
    except MisfitError as error:
        raise (at_its_line(args.recipe, error) if args.recipe else error) from None


def _refuse_for_table(args: argparse.Namespace, what: str, cure: str) -> None:
    """Raise UnsupportedError for an option that a finished table of operations has no use for."""
    given = {
        "--pattern": args.pattern, "--recipe": args.recipe, "--steps": args.steps, "--optimizer": args.optimizer,
        "--keep-dense": args.keep_dense, "--batch": args.batch != 1, "--seq-len": args.seq_len,
        "--phase": args.phase == "decode", "--context": args.context,
    }  # fmt: skip
    if unfit := [option for option, value in given.items() if value]:
        raise UnsupportedError(f"{unfit[0]} goes with a model; {args.workload} is {what}: {cure}")


def _seq_len(given: list[int | tuple[str, int]]) -> int | dict[str, int] | None:
    """One length for all streams, or a length by name."""
    named = dict(item for item in given if isinstance(item, tuple))
    plain = [item for item in given if isinstance(item, int)]
    if len(plain) > 1 or (plain and named):
        raise UnsupportedError("--seq-len takes one number, or name=number for each stream")
    return plain[0] if plain else named or None


def _origins(arch: AnyArch) -> Origins:
    from nmsim.specfile import format_path

    return {format_path(path): {"kind": p.kind, "text": p.text} for path, p in arch.provenance.items()}


def _write(result: Result, origins: Origins, notes: list[str], args: argparse.Namespace) -> None:
    """Write the files; plots of an earlier run do not stay beside figures that are not theirs."""
    from nmsim.results.io import files, write_files

    contents: dict[str, str | bytes] = dict(files(result, origins, notes))
    if not args.no_plots:
        from nmsim.report.plots import plot_latency, plot_roofline, png

        images = png(plot_latency(result)), png(plot_roofline(result))
        contents |= dict(zip(PLOTS, images, strict=True))
    if result.engine != "analytic":
        contents |= _timeline_files(result, args)
    write_files(args.output, contents)
    for stale in (Path(args.output) / name for name in (*PLOTS, *TIMELINE) if name not in contents):
        stale.unlink(missing_ok=True)
    print(f"nmsim: wrote {', '.join(contents)} to {args.output}", file=sys.stderr)


def _timeline_files(result: Result, args: argparse.Namespace) -> dict[str, str | bytes]:
    from nmsim.engines.event.result import EventResult
    from nmsim.report.power import plot_power
    from nmsim.report.timeline import plot_timeline, trace

    if not isinstance(result, EventResult):
        return {}
    frame, power = result.timeline(), result.power()
    contents: list[str | bytes] = [
        frame.to_csv(index=False, lineterminator="\n"),
        trace(result, frame, power),
        power.to_frame().to_csv(index=False, lineterminator="\n", float_format="%.7g"),
    ]
    if not args.no_plots:
        from nmsim.report.plots import png

        contents += [png(plot_timeline(result, frame)), png(plot_power(result, power))]
    return dict(zip(TIMELINE, contents, strict=False))


def _print(result: Result, origins: Origins, notes: list[str], args: argparse.Namespace, tariff: Tariff) -> None:
    from nmsim.results import io

    if args.json:
        data = io.to_dict(result, origins, ops=True, notes=notes)
        if tariff.price_per_kwh is not None or tariff.gco2_per_kwh is not None:
            from nmsim.energy.cost import bill

            data["cost"] = {"tariff": vars(tariff), **vars(bill(result.metric("energy_j"), tariff))}
        sys.stdout.write(io.dump(data))
    elif args.csv:
        sys.stdout.write(io.to_csv(result))
    else:
        from nmsim.report.summary import result_text

        print(result_text(result, args.top, tariff))
