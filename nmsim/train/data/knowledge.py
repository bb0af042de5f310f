"""Documents about a small world: facts, lookups, sums, sorted lists, choices and text, to judge more than the loss."""

import numpy as np

from nmsim.train.data.checks import DataError, check_amounts, check_integers, generator
from nmsim.train.data.dataset import IGNORED, Dataset, Split
from nmsim.train.data.sequences import markov
from nmsim.train.data.world import PAD, TASKS, World, make_world

TURNS = ("fact", "find", "add", "find", "sort", "find", "pick", "text")
"""The tasks of rows one after another, over and over."""


def knowledge(
    subjects: int = 64,
    relations: int = 4,
    objects: int = 32,
    frequent: int = 16,
    rarity: float = 16.0,
    keys: int = 8,
    values: int = 8,
    pairs: int = 3,
    modulus: int = 13,
    items: int = 12,
    listed: int = 4,
    choices: int = 3,
    vocabulary: int = 12,
    concentration: float = 0.1,
    length: int = 32,
    train: int = 12288,
    test: int = 1536,
    seed: int | np.random.Generator = 0,
) -> Dataset:
    """Documents about a random world, one task each, the tasks in turn (TURNS); `.` ends every answer.

    - `fact s r o .`: the object of each subject and relation, the same in both splits. The first `frequent` subjects
      are met `rarity` times as often as the others.
    - `find k v k v ... ? k v . k v .`: the value that the document gave each key. Test documents have sets of
      keys that no training document has (one set in five).
    - `add a b c .`: c = (a + b) mod `modulus`. Of about a third of the sums training has one order only, `add a b` or
      `add b a`; test documents have the other, so that who only memorises sums fails.
    - `sort i i i i = i i i i .`: the same items in the order of their ids; sets of items are held out as keys are.
    - `pick o A o B o C o D ? s r A .`: the label behind the object of a fact, one of `choices` offered: a fact that
      must be known, then looked up.
    - `text w w w ...`: a chain in which two words decide the odds of the next (see `markov`).

    Inputs and targets are [N, length] int32; targets are the next words where they are answers, end marks or text, and
    -1 elsewhere. `classes` is the size of the vocabulary. `info` has `words`, `pad`, the `world` (a World, which asks
    further questions) and `tasks`, for each split the number in TASKS of each row [N]. Raises DataError for options
    out of range, or a length in which a question does not fit.
    """
    check_integers(subjects=subjects, relations=relations, values=values, train=train, test=test)
    check_integers(most=subjects, frequent=frequent)
    check_integers(most=keys, pairs=pairs)
    check_integers(most=items, listed=listed)
    check_integers(least=2, keys=keys, modulus=modulus, items=items)
    check_integers(least=2, most=objects, choices=choices)
    check_integers(least=max(2 * pairs + 5, 2 * listed + 3, 2 * choices + 6), length=length)
    check_amounts(rarity=rarity)
    if rarity < 1:
        raise DataError(f"rarity must be at least 1, not {rarity!r}")
    rng = generator(seed)
    tasks = {"train": _turns(train), "test": _turns(test)}
    rows, tests = (max(int(np.count_nonzero(turns == TASKS.index("text"))), 1) for turns in tasks.values())
    text = markov(vocabulary, length, rows, tests, concentration, rng)
    families = {
        "subject": subjects, "relation": relations, "object": objects, "key": keys, "value": values,
        "number": modulus, "item": items, "label": choices, "word": vocabulary,
    }  # fmt: skip
    world = make_world(rng, families, frequent, rarity, {"told": pairs, "listed": listed}, text)
    splits = [_documents(world, rng, turns, length, name == "test", text.split(name)) for name, turns in tasks.items()]
    info = {"words": world.words, "pad": PAD, "world": world, "tasks": tasks}
    return Dataset("knowledge", "tokens", splits[0], splits[1], len(world.words), info)


def _documents(
    world: World, rng: np.random.Generator, turns: np.ndarray, length: int, held_out: bool, text: Split
) -> Split:
    """A document of the task that has its turn in each row."""
    inputs, targets = (np.empty((len(turns), length), np.int32) for _ in range(2))
    for i, task in enumerate(TASKS):
        rows = np.flatnonzero(turns == i)
        if not rows.size:
            continue
        part = _text(world, text) if task == "text" else world.documents(task, rng, rows.size, length, held_out)
        inputs[rows], targets[rows] = part.inputs, part.targets
    return Split(inputs, targets)


def _text(world: World, text: Split) -> Split:
    """The rows behind the mark of their task; the first two words are not asked for."""
    begin = np.full((len(text), 1), world.first["text"])
    unasked = np.full((len(text), 1), IGNORED)
    inputs = np.concatenate([begin, world.first["word"] + text.inputs[:, :-1]], axis=1)
    shifted = np.where(text.targets == IGNORED, IGNORED, world.first["word"] + text.targets)
    return Split(inputs, np.concatenate([unasked, shifted[:, :-1]], axis=1))


def _turns(rows: int) -> np.ndarray:
    """The number in TASKS of each row."""
    return np.array([TASKS.index(task) for task in TURNS])[np.arange(rows) % len(TURNS)]
