"""`nmsim why`: where the ideal gain of a sparse product goes, and from which sizes on it pays."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from nmsim.cli.parser import add_formats, pair, whole, word

if TYPE_CHECKING:
    from nmsim.arch.schema import AnyArch
    from nmsim.validation.breakeven import Question

PLOT = "speedup.png"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    parser.add_argument("arch", type=word, metavar="ARCH", help="a name from `nmsim list arch`, or a YAML file")
    parser.add_argument("--shape", type=_shape, required=True, metavar="M,N,K", help="sizes of C[M,N] = A[M,K]·B[K,N]")
    parser.add_argument("--pattern", type=word, required=True, metavar="N:M", help="pattern of one operand along K")
    parser.add_argument("--operand", choices=("A", "B"), default="B", help="the operand that has it (default B)")
    parser.add_argument("--dtype", type=word, default="fp16", metavar="TYPE", help="data type (default fp16)")
    parser.add_argument(
        "--set", type=pair, action="append", default=[], metavar="PATH=VALUE", dest="overrides",
        help="replace a number of the machine, as cores.count=64; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", type=word, metavar="DIR", help=f"write why.json, speedups.csv and {PLOT} into DIR"
    )
    add_formats(parser, "the causes")


def execute(args: argparse.Namespace) -> int:
    """Simulate both products and the scans, write, print."""
    from nmsim.arch.load import from_document, read_arch
    from nmsim.report.tables import csv_text
    from nmsim.results.io import dump, require_directory
    from nmsim.sparsity.pattern import Pattern
    from nmsim.validation.breakeven import Question

    if args.output is not None:
        require_directory(args.output)
    arch = from_document(read_arch(args.arch, dict(args.overrides), "--set"))
    question = Question(args.shape, Pattern.parse(args.pattern), args.operand, args.dtype)
    data = _answer(arch, question)
    if args.output is not None:
        _write(arch, question, data, args.output)
    if args.json:
        sys.stdout.write(dump(data))
    elif args.csv:
        sys.stdout.write(csv_text(data["causes"]))
    else:
        print(_text(data))
    return 0


def _shape(text: str) -> tuple[int, int, int]:
    parts = text.split(",")
    if len(parts) != 3:
        raise argparse.ArgumentTypeError(f"must be three sizes, as 4096,4096,4096, not {text!r:.60}")
    m, n, k = (whole(part) for part in parts)
    return m, n, k


def _answer(arch: AnyArch, question: Question) -> dict[str, Any]:
    """Times, causes and break-even sizes as plain data."""
    from nmsim.arch.arithmetic import widened
    from nmsim.validation.breakeven import LARGEST, SMALLEST, scan, thresholds, waterfall
    from nmsim.workloads.products import gemm

    fall = waterfall(arch, question)
    dense, sparse = sum(fall.dense_s.values()), sum(fall.sparse_s.values())
    causes = [
        {"cause": n, "dense_s": fall.dense_s[n], "sparse_s": fall.sparse_s[n], "lost_s": fall.lost_s[n]}
        for n in fall.sparse_s
    ]
    return {
        "arch": arch.name, "shape": list(question.shape), "pattern": str(question.pattern),
        "operand": question.operand, "dtype": question.dtype,
        "dense_s": dense, "sparse_s": sparse, "ideal_s": dense / question.ideal,
        "speedup": fall.speedup, "ideal_speedup": question.ideal, "skipped_because": fall.because,
        "runs_in": list(widened(arch, gemm(*question.shape, dtype=question.dtype))),
        "causes": causes, "scanned": [SMALLEST, LARGEST],
        "break_even": [vars(t) for t in thresholds(scan(arch, question))],
    }  # fmt: skip


def _write(arch: AnyArch, question: Question, data: dict[str, Any], directory: str) -> None:
    from nmsim.report.plots import png
    from nmsim.report.tables import csv_text
    from nmsim.report.validation_plots import Map, plot_speedup
    from nmsim.results.io import dump, write_files
    from nmsim.validation.breakeven import SHAPE, THRESHOLDS, planes

    size = dict(zip(SHAPE, question.shape, strict=True))
    maps, rows = [], []
    for p in planes(arch, question):
        star = size[p.x_name], size[p.y_name]
        maps.append(Map(f"at {p.fixed}", p.x_name, p.y_name, p.sizes, p.sizes, p.speedup, star))
        rows += [
            {**size, p.y_name: int(y), p.x_name: int(x), "speedup": float(p.speedup[i, j])}
            for i, y in enumerate(p.sizes)
            for j, x in enumerate(p.sizes)
        ]
    title = f"{data['pattern']} in {data['operand']} on {data['arch']}, {data['dtype']}; star: {_product(data)}"
    contents: dict[str, str | bytes] = {
        "why.json": dump(data), "speedups.csv": csv_text(rows), PLOT: png(plot_speedup(maps, title, THRESHOLDS))
    }  # fmt: skip
    write_files(directory, contents)
    print(f"nmsim: wrote {', '.join(contents)} to {directory}", file=sys.stderr)


def _product(data: dict[str, Any]) -> str:
    return "{} x {} x {}".format(*data["shape"])


def _text(data: dict[str, Any]) -> str:
    return "\n\n".join([_headline(data), _causes(data), _break_even(data)])


def _headline(data: dict[str, Any]) -> str:
    from nmsim.report.tables import WIDTH, quantity, wrap

    head = f"{_product(data)} in {data['dtype']} on {data['arch']}, {data['pattern']} in {data['operand']}"
    dense, sparse = (quantity(data[name], "s") for name in ("dense_s", "sparse_s"))
    gain = f"dense {dense}, sparse {sparse}: {data['speedup']:.2f}x of an ideal {data['ideal_speedup']:.2f}x"
    why = f"\nThe zeros are not skipped: {data['skipped_because']}." if data["skipped_because"] else ""
    runs = [part for line in data["runs_in"] for part in wrap(line, WIDTH)]
    return "\n".join([head, f"{gain}{why}", *runs])


def _causes(data: dict[str, Any]) -> str:
    """Dense and sparse time by cause, and what each takes of the ideal gain."""
    from nmsim.report.tables import quantity, table

    gain = data["dense_s"] - data["ideal_s"]
    rows = [
        [
            c["cause"], _time(c["dense_s"]), _time(c["sparse_s"]),
            _time(c["lost_s"]) if abs(c["lost_s"]) > 1e-6 * gain else "-", f"{100 * c['lost_s'] / gain:.1f} %",
        ]
        for c in data["causes"]
    ]  # fmt: skip
    lost = data["sparse_s"] - data["ideal_s"]
    rows.append(["sum", _time(data["dense_s"]), _time(data["sparse_s"]), _time(lost), f"{100 * lost / gain:.1f} %"])
    note = (
        f"Where the ideal gain of {quantity(gain, 's')} goes\n"
        "(lost: sparse time beyond the ideal share of the dense time; negative where a cause shrank more)"
    )
    return f"{note}\n{table(rows, ['cause', 'dense', 'sparse', 'lost', 'of the gain'], 'lrrrr')}"


def _time(seconds: float) -> str:
    from nmsim.report.tables import quantity

    if not seconds:
        return "-"
    return f"{'-' if seconds < 0 else ''}{quantity(abs(seconds), 's')}"


def _break_even(data: dict[str, Any]) -> str:
    from nmsim.report.tables import table

    rows = [
        [t["dimension"], f"{t['above']:g}x", *(f"{t[x]:,}" if t[x] else "never" for x in ("first", "always"))]
        for t in data["break_even"]
    ]
    low, high = data["scanned"]
    note = f"Sizes at which the speed-up exceeds a level (the others as asked; {low} to {high:,} tried)"
    return f"{note}\n{table(rows, ['size', 'speed-up', 'first at', 'always from'], 'lrrr')}"
