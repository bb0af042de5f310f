"""`nmsim train`: train a model by a recipe, and write the trace of what was executed."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmsim.cli.parser import pair, whole_or_none

if TYPE_CHECKING:
    from nmsim.train.config import TrainingFile
    from nmsim.train.loop import Trainer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    parser.add_argument("config", metavar="CONFIG", help="a name from `nmsim list training`, or a YAML file")
    parser.add_argument("-o", "--output", metavar="TRACE", required=True, help="the trace to write, as run.npz")
    parser.add_argument("--seed", type=whole_or_none, metavar="N", help="seed of data, weights and order")
    parser.add_argument(
        "--set", type=pair, action="append", default=[], metavar="PATH=VALUE", dest="overrides",
        help="replace a setting, as recipe=bdwp or schedule.rate=0.05; may be repeated",
    )  # fmt: skip
    parser.add_argument("--restart", action="store_true", help="begin anew although there is a checkpoint")
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no table")


def execute(args: argparse.Namespace) -> int:
    """Run the verb."""
    from nmsim.errors import NmsimError
    from nmsim.files import require_directory, temporaries
    from nmsim.traces.io import save as save_trace
    from nmsim.train import checkpoint
    from nmsim.train.loop import DivergedError, Trainer

    config = _config(args)
    output = Path(args.output)
    if output.suffix.lower() != ".npz":
        raise NmsimError(f"{output}: a trace is written to a file that ends in .npz")
    require_directory(output.parent)
    saved = output.with_name(f"{output.name}.checkpoint")
    trainer = Trainer(config)
    if saved.exists() and not args.restart:
        checkpoint.restore(trainer, saved)
        _say(args, f"continuing at step {trainer.step} of {config.steps} ({saved})")
    try:
        with _interruptions() as interrupted:
            _train(trainer, args, lambda: checkpoint.save(trainer, saved), interrupted)
    except DivergedError:
        if trainer.step:
            save_trace(trainer.trace(), output)
            print(f"nmsim: the trace of the {trainer.step} steps before is in {output}", file=sys.stderr)
        raise
    if trainer.step < config.steps:
        print(f"nmsim: stopped at step {trainer.step}; the same command continues from {saved}", file=sys.stderr)
        return 130
    save_trace(trainer.trace(), output)
    for done in (saved, *temporaries(saved)):
        done.unlink(missing_ok=True)
    _say(args, f"wrote {output}")
    return 0


def _config(args: argparse.Namespace) -> TrainingFile:
    from nmsim.library import locate
    from nmsim.specfile import read, set_path, validate
    from nmsim.train.config import TrainingFile

    document = read(locate("workloads/training", args.config))
    for path, value in args.overrides:
        document = set_path(document, path, value)
    if args.seed is not None:
        document = set_path(document, "seed", args.seed)
    return validate(TrainingFile, document)


def _train(trainer: Trainer, args: argparse.Namespace, save: Any, interrupted: list[int]) -> None:
    """Train to the end or to an interruption, with a progress bar and a line per evaluation."""
    from tqdm import tqdm

    bar = tqdm(
        total=trainer.config.steps, initial=trainer.step, unit="step", disable=True if args.quiet else None, leave=False
    )
    if trainer.step == 0:
        _say(args, f"{'step':>8} {'train loss':>12} {'test loss':>12} {'accuracy':>10}")

    def on_step(t: Trainer) -> None:
        bar.update(1)
        if t.last_evaluation and t.last_evaluation[0] == t.step:
            step, train_loss, test_loss, accuracy = t.last_evaluation
            bar.clear()
            _say(args, f"{step:8d} {train_loss:12.4f} {test_loss:12.4f} {100 * accuracy:8.2f} %")
        if interrupted or t.step % t.config.checkpoint_every == 0:
            save()

    try:
        while trainer.step < trainer.config.steps and not interrupted:
            trainer.train(1, on_step)
    finally:
        bar.close()


@contextmanager
def _interruptions() -> Iterator[list[int]]:
    """Signals that ask to stop are noted in the list, so that a step is never cut in two."""
    noted: list[int] = []
    before = {s: signal.signal(s, lambda number, _: noted.append(number)) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(args: argparse.Namespace, text: str) -> None:
    if not args.quiet:
        print(text, flush=True)
