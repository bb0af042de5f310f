"""Seconds and memory of whole training steps beside PyTorch: same networks, weights, batches and threads, in float32.

Run with the same number in NMSIM_THREADS, OPENBLAS_NUM_THREADS and --threads (default 2); on a machine with other work
with one thread and --clock cpu.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.mirror import Mirror
from nmsim.train.layers.base import Run
from nmsim.train.loss import softmax_cross_entropy
from nmsim.train.memory import keep_freed_memory
from nmsim.train.models import make_model
from nmsim.train.network import Network
from nmsim.train.optim import SGD, AdamW
from nmsim.train.recipes.execution import Execution

RECIPES = ("ste", "srste", "sdwp", "bdwp", "sdgp")
CASES: dict[str, tuple[str, dict[str, int], int]] = {
    "mlp": ("mlp", {"inputs": 784, "width": 512}, 256),
    "transformer": ("transformer", {}, 64),
    "language_model": ("language_model", {}, 64),
    "vit_tiny": ("vit_tiny", {}, 64),
    "resnet9 width 16": ("resnet9_narrow", {"width": 16}, 128),
    "resnet9 width 32": ("resnet9_narrow", {"width": 32}, 128),
    "vgg_small": ("vgg_small", {}, 128),
}
TURN, AGREEMENT, AGREEING_STEPS = 3, 1e-4, 3

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}

Step = Callable[[], float]


def case(name: str) -> tuple[Network, dict[str, np.ndarray], np.ndarray]:
    """The network of a case with one batch of noise and its targets."""
    model, sizes, batch = CASES[name]
    rng = np.random.default_rng(0)
    network = make_model(model, rng, **sizes)
    if model == "mlp":
        return (
            network,
            {"inputs": rng.standard_normal((batch, sizes["inputs"]), np.float32)},
            rng.integers(0, 10, batch),
        )
    if model == "language_model":
        return network, {"inputs": rng.integers(0, 64, (batch, 64))}, rng.integers(0, 64, (batch, 64))
    if model == "transformer":
        source, target = rng.integers(0, 128, (2, batch, 24))
        mask = np.arange(24) < rng.integers(12, 25, (batch, 1))
        return network, {"source": source, "target": target, "source_mask": mask}, rng.integers(0, 128, (batch, 24))
    return network, {"inputs": rng.standard_normal((batch, 32, 32, 3), np.float32)}, rng.integers(0, 10, batch)


def ours(name: str, recipe: str = "dense") -> Step:
    """A step of nmsim: forward, loss, backward, update; SGD with momentum for convolutions, else AdamW."""
    keep_freed_memory()
    network, inputs, targets = case(name)
    parameters = list(network.parameters())
    optimizer = SGD(0.9, 1e-4) if _convolutional(name) else AdamW()
    execution = Execution.of(network.plan(len(targets)), recipe, "dense" if recipe == "dense" else "2:8")
    done = 0

    def step() -> float:
        nonlocal done
        execution.begin_step(done)
        done += 1
        run = Run(sparsifier=execution)
        loss, gradient, _ = softmax_cross_entropy(network.forward(run, **inputs), targets)
        network.backward(run, gradient)
        optimizer.step(parameters, 1e-3)
        return loss

    return step


def theirs(name: str, threads: int) -> Step:
    """The same step of PyTorch, from the same weights."""
    import torch

    torch.set_num_threads(threads)
    network, arrays, labels = case(name)
    mirror = Mirror(network)
    inputs, targets = mirror.inputs(arrays), torch.from_numpy(labels.reshape(-1))
    optimizer: Any
    if _convolutional(name):
        optimizer = torch.optim.SGD(mirror.groups(1e-4), 1e-3, 0.9)
    else:
        optimizer = torch.optim.AdamW(mirror.groups(0.01), 1e-3)

    def step() -> float:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(mirror(inputs).flatten(0, -2), targets)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def alternating(steps: Sequence[Step], rounds: int, clock: Callable[[], float]) -> list[list[float]]:
    """Seconds of the steps, a few of each in turn: a slow moment of the machine meets all of them."""
    times: list[list[float]] = [[] for _ in steps]
    for _ in range(rounds):
        for i, step in enumerate(steps):
            time.sleep(0.2)  # Waiting threads of one library would slow the next.
            step()
            for _ in range(TURN):
                start = clock()
                step()
                times[i].append(clock() - start)
    return times


def compare(name: str, threads: int, rounds: int, memory: tuple[float, ...], clock: Callable[[], float]) -> None:
    """Check that the first losses agree, then print medians, ratios of these and of the best steps, memory."""
    mine, other = ours(name), theirs(name, threads)
    gaps = [abs(mine() - other()) for _ in range(AGREEING_STEPS)]
    if max(gaps) > AGREEMENT:
        raise SystemExit(f"{name}: losses of the first steps differ by {max(gaps):.2e}")
    times = alternating([mine, other], rounds, clock)
    (a, b), (best_a, best_b) = ([measure(t) for t in times] for measure in (statistics.median, min))
    base_a, peak_a, base_b, peak_b = memory
    print(
        f"{name:<18} {a * 1e3:>9.1f} {b * 1e3:>9.1f} {a / b:>6.2f} {best_a / best_b:>6.2f} {max(gaps):>9.1e}"
        f" {peak_a:>9.0f} {peak_b:>9.0f}"
        f" {(peak_a - base_a) / max(peak_b - base_b, 1):>7.2f}",
        flush=True,
    )


def overhead(name: str, rounds: int, clock: Callable[[], float]) -> None:
    """Print what each recipe adds to the median dense step, in percent."""
    times = alternating([ours(name, r) for r in ("dense", *RECIPES)], rounds, clock)
    dense, *others = map(statistics.median, times)
    print(f"{name:<18} " + " ".join(f"{100 * (t / dense - 1):>+7.1f}%" for t in others), flush=True)


def peak(side: str, name: str, threads: int) -> None:
    """Print the peak of the resident memory in MiB of a few steps in this process (`nothing`: after the imports)."""
    if side == "torch":
        import torch

        torch.zeros(1)
    if name != "nothing":
        step = ours(name) if side == "nmsim" else theirs(name, threads)
        for _ in range(3):
            step()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def memory(name: str, threads: int) -> tuple[float, ...]:
    """MiB before and at the peak, of nmsim and of PyTorch; to be asked for while this process is still small.

    What a process has at its start is the peak of its parent.
    """
    return tuple(_memory(side, what, threads) for side in ("nmsim", "torch") for what in ("nothing", name))


def _memory(side: str, name: str, threads: int) -> float:
    command = [sys.executable, "-m", "benchmarks.bench_training", "--peak", side, name, "--threads", str(threads)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _convolutional(name: str) -> bool:
    return name.startswith(("resnet", "vgg"))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clock", default="wall", choices=list(CLOCKS))
    parser.add_argument("--only", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--skip", nargs="*", default=[], choices=["torch", "recipes"])
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.peak:
        peak(*options.peak, options.threads)
        return
    if importlib.util.find_spec("torch") is None:
        print("training steps: PyTorch is not installed, nothing to compare with")
    elif "torch" not in options.skip:
        print(f"load {os.getloadavg()[0]:.2f}; memory in MiB, its ratio over what the imports take")
        print(
            f"{'step':<18} {'nmsim ms':>9} {'torch ms':>9} {'ratio':>6} {'best':>6} {'loss gap':>9} {'nmsim MiB':>9}"
            f" {'torch MiB':>9} {'ratio':>7}"
        )
        memories = [memory(name, options.threads) for name in options.only]
        for name, measured in zip(options.only, memories, strict=True):
            compare(name, options.threads, options.rounds, measured, CLOCKS[options.clock])
    if "recipes" not in options.skip:
        print(f"load {os.getloadavg()[0]:.2f}; what 2:8 recipes add to a step")
        print(f"{'step':<18} " + " ".join(f"{recipe:>8}" for recipe in RECIPES))
        for name in options.only:
            overhead(name, options.rounds, CLOCKS[options.clock])


if __name__ == "__main__":
    main()
