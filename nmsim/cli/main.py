"""The command line: finds the verb, imports its module alone, and turns errors into messages and exit codes.

Exit codes: 0 good, 1 outside a stated tolerance, 2 bad input, 130 interrupted, 141 output closed early.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from nmsim import __version__
from nmsim.cli.parser import Parser
from nmsim.errors import NmsimError, SpecError, unknown

BAD_INPUT = 2
INTERRUPTED = 130
CLOSED_PIPE = 141

VERBS = {
    "run": ("nmsim.cli.run", "simulate a model on a machine"),
    "schedule": ("nmsim.cli.schedule", "choose ahead how each product runs on a systolic array"),
    "sweep": ("nmsim.cli.sweep", "simulate every point of a space, and find the best"),
    "compare": ("nmsim.cli.compare", "two saved results side by side"),
    "plot": ("nmsim.cli.plot", "a picture of a result, of rows of a table, of a training run or of a mask"),
    "check": ("nmsim.cli.check", "find the mistakes in architecture and workload files"),
    "train": ("nmsim.cli.train", "train a model by a recipe, and write what was executed"),
    "schema": ("nmsim.cli.schema", "the JSON Schema of a kind of file"),
    "list": ("nmsim.cli.listing", "what there is: machines, workloads, recipes, metrics and more"),
    "explain": ("nmsim.cli.explain", "what a name in a result or a list means"),
    "trace": ("nmsim.cli.trace", "what a recorded training run did, and whether its record holds"),
    "validate": ("nmsim.cli.validate", "how far predictions are from measured times"),
    "why": ("nmsim.cli.why", "where the gain of a sparse product goes, and from which sizes on it pays"),
}
"""Module and one line of help of each verb; the module has `add_arguments(parser)` and `execute(args) -> int`."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; nothing but a message reaches the user when it fails."""
    _write_what_can_be_written()
    if sys.stdout is None:  # closed by the caller, as in `nmsim list >&-`
        return _fail("the standard output is closed")
    try:
        code = _leaving(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        _drop_output()
        return CLOSED_PIPE
    except SpecError as error:
        return _fail(str(error), prefix="")
    except NmsimError as error:
        return _fail(str(error))
    except MemoryError as error:
        return _fail(f"out of memory: {error}" if str(error) else "out of memory")
    except OSError as error:
        code = _fail(": ".join(str(part) for part in (error.filename, error.strerror or error) if part))
        _settle_output()
        return code


def _leaving(argv: list[str]) -> int:
    """The exit code, also where argparse leaves after its own message or help."""
    try:
        return _dispatch(argv)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0


def _dispatch(argv: list[str]) -> int:
    if not argv:
        _top_parser().print_help(sys.stderr)
        return BAD_INPUT
    verb, rest = argv[0], argv[1:]
    if verb.startswith("-"):
        _top_parser().parse_args(argv[:1])
    if verb not in VERBS:
        _top_parser().error(unknown("verb", verb, VERBS))
    module_name, what = VERBS[verb]
    module = import_module(module_name)
    parser = Parser(prog=f"nmsim {verb}", description=f"{what[0].upper()}{what[1:]}.")
    module.add_arguments(parser)
    return module.execute(parser.parse_args(rest))


def _top_parser() -> Parser:
    width = max(map(len, VERBS)) + 2
    verbs = "\n".join(f"  {verb:{width}}{what}" for verb, (_, what) in VERBS.items())
    parser = Parser(
        prog="nmsim",
        usage="nmsim VERB ...",
        description="What an N:M sparsity recipe costs on a machine, over a training run or an inference.",
        epilog=f"verbs:\n{verbs}\n\n`nmsim VERB --help` tells more of a verb.",
    )
    parser.add_argument("--version", action="version", version=f"nmsim {__version__}")
    return parser


def _fail(message: str, code: int = BAD_INPUT, prefix: str = "nmsim: ") -> int:
    with contextlib.suppress(OSError):
        print(f"{prefix}{message}", file=sys.stderr)
    return code


def _write_what_can_be_written() -> None:
    """Where the terminal lacks a character, print a question mark rather than fail; a closed stderr gets nothing."""
    if sys.stderr is None:  # print would take stdout instead
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def _settle_output() -> None:
    """Drop what is still to be printed if it cannot be."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        _drop_output()


def _drop_output() -> None:
    """Keep the interpreter from failing again when it flushes at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
