"""A small world to be known: facts, lookups, sums, sorted lists, choices and text, for judging more than the loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from nmsim.errors import unknown
from nmsim.train.data.checks import DataError, check_amounts, check_integers, generator
from nmsim.train.data.dataset import IGNORED, Dataset, Split
from nmsim.train.data.sequences import markov

PAD, END, ASK, GIVES = 0, 1, 2, 3
TASKS = ("fact", "find", "add", "sort", "pick", "text")
"""The tasks; the name of each is also the first word of its documents."""

TURNS = ("fact", "find", "add", "find", "sort", "find", "pick", "text")
"""The tasks of rows one after another, over and over."""

HELD_OUT = 5  # one in so many sets of keys, and of items to sort, is never seen in training
_PATIENCE = 200  # draws in a row of which none is allowed before the options are called too narrow


@dataclass(frozen=True, eq=False)
class Items:
    """Questions with one right answer each: `prompts` [N, P] and `answers` [N, A] ids, the end mark left out."""

    prompts: np.ndarray
    answers: np.ndarray

    def __len__(self) -> int:
        return len(self.prompts)


@dataclass(frozen=True, eq=False)
class World:
    """What is true. `first` is the first id and `sizes` the number of words of each family.

    `objects` [S, R] are the ids of the objects of all facts; `frequent` [S] tells the subjects that are met often and
    `odds` [S] how often each is met. `marks` are random numbers by which sets are held out of training.
    """

    words: tuple[str, ...]
    first: Mapping[str, int]
    sizes: Mapping[str, int]
    objects: np.ndarray
    frequent: np.ndarray
    odds: np.ndarray
    marks: np.ndarray
    transition: np.ndarray
    entropy_rate_nats: float

    def items(self, task: str, rng: np.random.Generator, count: int, held_out: bool) -> Items:
        """`count` questions of a task (not text), with those sets only that training sees, or those it never sees.

        Facts have no held-out side: they are drawn from all of the world, as often as in training. Raises DataError
        for a task without questions, or options too narrow for sets of both kinds.
        """
        makers = {"fact": self._fact, "find": self._find, "add": self._add, "sort": self._sort, "pick": self._pick}
        if task not in makers:
            raise DataError(unknown("task with questions", task, makers))
        return makers[task](rng, count, held_out)

    def facts(self) -> tuple[Items, np.ndarray]:
        """A question for every fact, subject by subject, and whether its subject is frequent [S·R]."""
        subjects, relations = (x.ravel() for x in np.indices(self.objects.shape))
        return self._about(subjects, relations), self.frequent[subjects]

    def choices(self, right: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Objects to choose from [N, C], each once, in random order; and the place of the right one [N]."""
        count, size = self.sizes["label"], self.sizes["object"]
        apart = 1 + _subsets(rng, size - 1, count - 1, len(right))
        wrong = self.first["object"] + (right[:, None] - self.first["object"] + apart) % size
        place = rng.integers(count, size=len(right))
        offered = np.insert(wrong, 0, right, axis=1)
        order = (np.arange(count) - place[:, None]) % count
        return np.take_along_axis(offered, order, axis=1), place

    def pick_prompts(self, questions: Items, offered: np.ndarray) -> np.ndarray:
        """`pick o A o B o C o D ? s r` for questions about facts and the objects offered [N, C]."""
        labels = np.broadcast_to(self._ids("label"), offered.shape)
        told = np.stack([offered, labels], axis=2).reshape(len(offered), -1)
        return self._row("pick", told, ASK, questions.prompts[:, 1:])

    def documents(self, task: str, rng: np.random.Generator, rows: int, length: int, held_out: bool) -> Split:
        """Rows of questions with their answers, as many as fit; targets are the answers and their end marks."""
        if task == "find":
            return self._find_documents(rng, rows, length, held_out)
        one = self.items(task, rng, 1, held_out)
        width = one.prompts.shape[1] + one.answers.shape[1] + 1
        many = length // width
        made = self.items(task, rng, rows * many, held_out)
        ends = np.full((len(made), 1), END)
        tokens = np.concatenate([made.prompts, made.answers, ends], axis=1).reshape(rows, many * width)
        asked = np.tile(np.arange(width) >= made.prompts.shape[1], many)
        return _split(tokens, asked, length)

    def _about(self, subjects: np.ndarray, relations: np.ndarray) -> Items:
        pair = np.stack([self.first["subject"] + subjects, self.first["relation"] + relations], axis=1)
        return Items(self._row("fact", pair), self.objects[subjects, relations][:, None])

    def _fact(self, rng: np.random.Generator, count: int, held_out: bool) -> Items:
        subjects = rng.choice(len(self.odds), count, p=self.odds)
        return self._about(subjects, rng.integers(self.sizes["relation"], size=count))

    def _pick(self, rng: np.random.Generator, count: int, held_out: bool) -> Items:
        questions = self._fact(rng, count, held_out)
        offered, place = self.choices(questions.answers[:, 0], rng)
        return Items(self.pick_prompts(questions, offered), self.first["label"] + place[:, None])

    def _add(self, rng: np.random.Generator, count: int, held_out: bool) -> Items:
        size = self.sizes["number"]
        pairs = self._allowed("number", lambda n: rng.integers(size, size=(n, 2)), count, held_out)
        total = pairs.sum(axis=1, keepdims=True) % size
        return Items(self._row("add", self.first["number"] + pairs), self.first["number"] + total)

    def _sort(self, rng: np.random.Generator, count: int, held_out: bool) -> Items:
        items = self.first["item"] + self._distinct("item", self.sizes["listed"], rng, count, held_out)
        return Items(self._row("sort", items, GIVES), np.sort(items, axis=1))

    def _find(self, rng: np.random.Generator, count: int, held_out: bool) -> Items:
        told, keys, values = self._pairs(rng, count, held_out)
        about = rng.integers(keys.shape[1], size=(count, 1))
        key, value = (np.take_along_axis(x, about, axis=1) for x in (keys, values))
        return Items(self._row("find", told, ASK, key), value)

    def _find_documents(self, rng: np.random.Generator, rows: int, length: int, held_out: bool) -> Split:
        """Pairs, then as many questions as fit, each about any of the keys: those left over tell nothing."""
        told, keys, values = self._pairs(rng, rows, held_out)
        many = (length - 2 - told.shape[1]) // 3
        about = rng.integers(keys.shape[1], size=(rows, many))
        answers = [np.take_along_axis(x, about, axis=1) for x in (keys, values)]
        asked = np.stack([*answers, np.full_like(about, END)], axis=2).reshape(rows, -1)
        before = np.zeros(2 + told.shape[1], bool)
        return _split(self._row("find", told, ASK, asked), np.r_[before, np.tile([False, True, True], many)], length)

    def _pairs(self, rng: np.random.Generator, count: int, held_out: bool) -> tuple[np.ndarray, ...]:
        """Keys and their values as they are told [N, 2·pairs], and by themselves [N, pairs]."""
        keys = self.first["key"] + self._distinct("key", self.sizes["told"], rng, count, held_out)
        values = self.first["value"] + rng.integers(self.sizes["value"], size=keys.shape)
        return np.stack([keys, values], axis=2).reshape(count, -1), keys, values

    def _distinct(self, family: str, chosen: int, rng: np.random.Generator, count: int, held_out: bool) -> np.ndarray:
        return self._allowed(family, lambda n: _subsets(rng, self.sizes[family], chosen, n), count, held_out)

    def _allowed(self, family: str, draw: Callable[[int], np.ndarray], count: int, held_out: bool) -> np.ndarray:
        """`count` rows of those that `draw` gives that are on the side asked for."""
        found: list[np.ndarray] = []
        have = misses = 0
        while have < count:
            drawn = draw(max(count, HELD_OUT))
            codes = self.marks[self.first[family] + drawn].sum(axis=1)
            kept = _one_order(codes, drawn) if family == "number" else codes % HELD_OUT == 0
            fitting = drawn[kept == held_out]
            misses = 0 if len(fitting) else misses + 1
            if misses == _PATIENCE:
                raise DataError(f"there are too few different sets of words {family} to hold some out of training")
            found.append(fitting)
            have += len(fitting)
        return np.concatenate(found)[:count]

    def _ids(self, family: str) -> np.ndarray:
        return self.first[family] + np.arange(self.sizes[family])

    def _row(self, task: str, *parts: np.ndarray | int) -> np.ndarray:
        """The mark of the task and the parts, arrays [N, ...] or one id for all rows, side by side."""
        rows = next(len(x) for x in parts if isinstance(x, np.ndarray))
        columns = (np.full((rows, 1), x) if isinstance(x, int) else x for x in (self.first[task], *parts))
        return np.concatenate(list(columns), axis=1)


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
    world = _world(rng, families, frequent, rarity, {"told": pairs, "listed": listed}, text)
    splits = [_documents(world, rng, turns, length, name == "test", text.split(name)) for name, turns in tasks.items()]
    info = {"words": world.words, "pad": PAD, "world": world, "tasks": tasks}
    return Dataset("knowledge", "tokens", splits[0], splits[1], len(world.words), info)


def _world(
    rng: np.random.Generator, families: Mapping[str, int], frequent: int, rarity: float, more: Mapping[str, int],
    text: Dataset,
) -> World:  # fmt: skip
    words: list[str] = ["<pad>", ".", "?", "=", *TASKS]
    first = {task: words.index(task) for task in TASKS}
    for family, size in families.items():
        first[family] = len(words)
        words += [f"{family}{i}" for i in range(size)]
    often = np.arange(families["subject"]) < frequent
    odds = np.where(often, rarity, 1.0)
    facts = first["object"] + rng.integers(families["object"], size=(families["subject"], families["relation"]))
    marks = rng.integers(1 << 40, size=len(words))
    return World(
        tuple(words), first, {**families, **more}, facts, often, odds / odds.sum(), marks,
        text.info["transition"], text.info["entropy_rate_nats"],
    )  # fmt: skip


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


def _split(tokens: np.ndarray, asked: np.ndarray, length: int) -> Split:
    """Inputs and targets of rows of words [N, T], T at most length + 1, of which those `asked` [T] are to be said."""
    whole = np.full((len(tokens), length + 1), PAD, np.int32)
    whole[:, : tokens.shape[1]] = tokens
    wanted = np.zeros(length + 1, bool)
    wanted[: len(asked)] = asked
    return Split(whole[:, :-1].copy(), np.where(wanted, whole, np.int32(IGNORED))[:, 1:].copy())


def _subsets(rng: np.random.Generator, size: int, chosen: int, count: int) -> np.ndarray:
    """`count` random choices [count, chosen] of different numbers below `size`."""
    return rng.permuted(np.tile(np.arange(size), (count, 1)), axis=1)[:, :chosen]


def _one_order(codes: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """True for one of the two orders of one set of two numbers in three: rows of pairs [N, 2] whose sets have codes."""
    rises = np.where(codes // 3 % 2 == 0, pairs[:, 0] < pairs[:, 1], pairs[:, 0] > pairs[:, 1])
    return (codes % 3 == 0) & rises


def _turns(rows: int) -> np.ndarray:
    """The number in TASKS of each row."""
    return np.array([TASKS.index(task) for task in TURNS])[np.arange(rows) % len(TURNS)]
