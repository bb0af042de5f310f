"""Answers are scored as counted by hand; who knows all is always right, who knows nothing is right by chance."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmsim.errors import NmsimError, ShapeError, UnsupportedError
from nmsim.train.config import TrainingFile
from nmsim.train.data import IGNORED, DataError, load_data
from nmsim.train.data.knowledge import TURNS, knowledge
from nmsim.train.data.world import END, GIVES, TASKS
from nmsim.train.evaluate import (
    Reader,
    battery,
    choose,
    contains,
    exact_match,
    f1,
    greedy,
    log_likelihood,
    measure,
    perplexity,
    rising,
    same_words,
    to_frame,
)
from nmsim.train.layers.base import Run, Sparsifier
from nmsim.train.loop import Trainer
from nmsim.train.models import make_model

SMALL = {"train": 64, "test": 64}


class Oracle:
    """Logits that are one-hot for the right word: it reads the question of each row and says the answer and the end."""

    def __init__(self, world, silent=False):
        self.world, self.silent = world, silent

    def forward(self, run: Run, **inputs):
        tokens = inputs["inputs"]
        logits = np.zeros((*tokens.shape, len(self.world.words)), np.float32)
        for row, ids in enumerate(tokens):
            begin, answer = self.answer(ids.tolist())
            for i, word in enumerate([END] if self.silent else [*answer, END]):
                if begin + i < len(ids):
                    logits[row, begin + i, word] = 50.0
        return logits

    def answer(self, ids):
        """Where the answer begins to be asked for (the prompt's last place), and the answer."""
        world, first = self.world, self.world.first
        task = next(name for name in TASKS if first[name] == ids[0])
        told = 1 + 2 * world.sizes["told"]
        if task == "fact":
            return 2, [self.fact(ids[1], ids[2])]
        if task == "add":
            number = first["number"]
            return 2, [number + (ids[1] + ids[2] - 2 * number) % world.sizes["number"]]
        if task == "find":
            return told + 1, [dict(zip(ids[1:told:2], ids[2:told:2], strict=True))[ids[told + 1]]]
        if task == "sort":
            return ids.index(GIVES), sorted(ids[1 : ids.index(GIVES)])
        if task == "pick":
            offered = 1 + 2 * world.sizes["label"]
            labels = dict(zip(ids[1:offered:2], ids[2:offered:2], strict=True))
            return offered + 2, [labels[self.fact(ids[offered + 1], ids[offered + 2])]]
        return 0, []

    def fact(self, subject, relation):
        return int(self.world.objects[subject - self.world.first["subject"], relation - self.world.first["relation"]])


class Said:
    """Says the same words after any prompt that ends at place `begin`, whatever it reads."""

    def __init__(self, begin, words, vocabulary):
        self.begin, self.words, self.vocabulary = begin, words, vocabulary

    def forward(self, run: Run, **inputs):
        logits = np.zeros((*inputs["inputs"].shape, self.vocabulary))
        for i, word in enumerate(self.words):
            logits[:, self.begin + i, word] = 9.0
        return logits


class Guesser:
    """After a prompt about a fact (three words) any object at random, then the end."""

    def __init__(self, world, rng):
        self.world, self.rng = world, rng

    def forward(self, run: Run, **inputs):
        count, length = inputs["inputs"].shape
        logits = np.zeros((count, length, len(self.world.words)))
        first, size = self.world.first["object"], self.world.sizes["object"]
        logits[:, 2, first : first + size] = 1 + self.rng.random((count, size))
        logits[:, 3, END] = 9.0
        return logits


def ids(*rows):
    width = max(len(row) for row in rows)
    return np.array([[*row, *[IGNORED] * (width - len(row))] for row in rows])


# Scores, counted by hand


def test_an_exact_match_is_the_whole_answer_and_no_more():
    """[5] is [5]; [5, 6] is not, nor [6], nor is an empty answer."""
    answers, wanted = ids([5], [5, 6], [6], []), ids([5], [5], [5], [5])
    assert exact_match(answers, wanted).tolist() == [True, False, False, False]


def test_containing_goes_one_way_only():
    """[1, 5, 6] contains [5, 6]; [5, 1, 6] has a gap; [5] is only part of what is wanted; nothing contains nothing."""
    answers, wanted = ids([1, 5, 6], [5, 1, 6], [5], []), ids(*[[5, 6]] * 4)
    assert contains(answers, wanted).tolist() == [True, False, False, False]


def test_f1_counts_words_in_common():
    """Said a a b, wanted a b c: common a, b; precision 2/3, recall 2/3, F1 2/3. Said b, wanted b c: 2·1/(1+2) = 2/3."""
    answers, wanted = ids([1, 1, 2], [2], [], [3, 2, 1]), ids([1, 2, 3], [2, 3], [1], [1, 2, 3])
    assert f1(answers, wanted) == pytest.approx([2 / 3, 2 / 3, 0, 1])


def test_same_words_counts_repetitions():
    """a b a is b a a, but not a b, a b b or nothing."""
    answers = ids([1, 2, 1], [1, 2], [1, 2, 2], [])
    assert same_words(answers, ids(*[[2, 1, 1]] * 4)).tolist() == [True, False, False, False]


def test_rising_words():
    """1 3 4 rises, 1 1 and 2 1 do not, one word does, none does not."""
    assert rising(ids([1, 3, 4], [1, 1], [2, 1], [7], [])).tolist() == [True, False, False, True, False]


def test_perplexity_is_the_inverse_of_the_mean_odds():
    """Odds of 1/2 and 1/8 have the geometric mean 1/4."""
    assert perplexity(np.log([1 / 2, 1 / 8])) == pytest.approx(4)


@given(st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=5), min_size=1, max_size=6), st.data())
@settings(deadline=None, max_examples=40)
def test_scores_agree_with_each_other(wanted, data):
    """An exact match is contained, has the same words and F1 1; F1 is symmetrical and 1 only for the same words."""
    other = data.draw(st.lists(st.lists(st.integers(0, 4), max_size=5), min_size=len(wanted), max_size=len(wanted)))
    right, said = ids(*wanted), ids(*other)
    exact, f = exact_match(said, right), f1(said, right)
    assert exact_match(right, right).all()
    assert exact.tolist() == [a == b for a, b in zip(other, wanted, strict=True)]
    assert not (exact & ~contains(said, right)).any()
    assert ((f == 1) == same_words(said, right)).all()
    assert same_words(said, right).tolist() == [sorted(a) == sorted(b) for a, b in zip(other, wanted, strict=True)]


def test_scores_that_cannot_be_given():
    with pytest.raises(ShapeError, match="must be as many rows"):
        exact_match(ids([1], [2]), ids([1]))
    with pytest.raises(ShapeError, match="right answer is empty"):
        exact_match(ids([1]), ids([]))
    with pytest.raises(ShapeError, match="no words"):
        perplexity(np.empty(0))


# Generation and likelihood


def test_an_answer_does_not_include_its_prompt():
    """The prompt holds the right word 7; the model says 3 and stops: the answer is 3, which is wrong."""
    said = greedy(Reader(Said(1, [3, END], 9), 8), ids([2, 7]), budget=4, end=END)
    assert said.answers.tolist() == [[3, IGNORED, IGNORED, IGNORED]]
    assert said.ended.tolist() == [True]
    assert not contains(said.answers, ids([7])).any()


def test_an_answer_over_the_budget_is_cut_and_not_ended():
    """Three words and an end need a budget of three; with two the answer is cut."""
    reader = Reader(Said(1, [3, 4, 5, END], 9), 8)
    said = [greedy(reader, ids([2, 7]), budget, END) for budget in (2, 3)]
    assert [x.ended.tolist() for x in said] == [[False], [True]]
    assert [x.answers.tolist() for x in said] == [[[3, 4]], [[3, 4, 5]]]


def test_prompts_of_different_lengths_in_small_batches():
    """A model that says each word plus one goes on from the last word of each prompt."""

    class Next:
        def forward(self, run: Run, **inputs):
            return np.eye(20)[inputs["inputs"] + 1]

    said = greedy(Reader(Next(), 8, batch=2), ids([4], [2, 9], [3, 3, 5]), budget=2, end=END)
    assert said.answers.tolist() == [[5, 6], [10, 11], [6, 7]]


def test_likelihood_is_that_of_the_answer_alone():
    """Logits 9, 0, 0 after the prompt: log P(0) = -log(1 + 2 e^-9); the next word is even: log(1/3)."""
    found = log_likelihood(Reader(Said(1, [0], 3), 6), ids([2, 2], [2, 2]), ids([0, 1], [0]))
    first = -np.log(1 + 2 * np.exp(-9))
    assert found == pytest.approx([first + np.log(1 / 3), first])


def test_the_likeliest_choice():
    chosen = choose(Reader(Said(1, [4], 9), 6), ids([2, 2]), np.array([[[3], [5], [4]]]))
    assert chosen.tolist() == [2]


def test_prompts_that_cannot_be_read():
    reader = Reader(Said(1, [3], 9), 8)
    for prompts, budget, message in (
        (ids([1, 2], []), 2, "prompts of 0 to 2 ids"),
        (ids([1] * 6), 3, "do not fit a model that reads 8"),
        (np.array([[IGNORED, 1]]), 2, "only behind the last word"),
    ):
        with pytest.raises(ShapeError, match=message):
            greedy(reader, prompts, budget, END)
    with pytest.raises(ShapeError, match="at least a word"):
        log_likelihood(reader, ids([1]), ids([]))
    with pytest.raises(ShapeError, match="2 prompts, but 1 answers"):
        log_likelihood(reader, ids([1], [1]), ids([2]))


# The battery


def test_who_knows_all_is_always_right():
    data = knowledge(**SMALL, seed=3)
    rows = measure(Oracle(data.info["world"]), data, prompts=20)
    asked = [row for row in rows if "perplexity" not in row.metric]
    assert {(row.task, row.split) for row in asked} == {
        ("fact_frequent", "train"), ("fact_rare", "train"), ("find", "train"), ("find", "test"),
        ("add", "train"), ("add", "test"), ("sort", "train"), ("sort", "test"),
    }  # fmt: skip
    assert {row.metric for row in asked if row.task == "fact_rare"} == {
        "exact_match", "f1", "choice_by_likelihood", "choice_by_generation"
    }  # fmt: skip
    assert [row.value for row in asked] == [1.0] * len(asked)


def test_who_says_nothing_is_never_right():
    data = knowledge(**SMALL, seed=3)
    rows = measure(Oracle(data.info["world"], silent=True), data, prompts=20)
    generated = [row for row in rows if "perplexity" not in row.metric and row.metric != "choice_by_likelihood"]
    assert [row.value for row in generated] == [0.0] * len(generated)


@pytest.mark.parametrize("length", [12, 32])
def test_who_never_ends_is_never_right(length):
    """The right answers without the end mark are wrong, even where the rows leave no more than a word of room."""
    data = knowledge(length=length, **SMALL, seed=3)
    oracle = Oracle(data.info["world"])

    class Babbler:
        def forward(self, run: Run, **inputs):
            logits = oracle.forward(run, **inputs)
            logits[..., END] = -1.0
            return logits

    rows = [row for row in measure(Babbler(), data, prompts=10) if row.metric in ("exact_match", "ended")]
    assert len(rows) == 10
    assert [row.value for row in rows] == [0.0] * len(rows)


def within(value, count, chance):
    """Five standard deviations of a binomial share; one draw in a million lies outside."""
    return abs(value - chance) < 5 * (chance * (1 - chance) / count) ** 0.5


def test_a_guesser_is_right_by_chance():
    """Random objects in the right form: exact matches at 1 / objects, choices at 1 / choices."""
    data = knowledge(subjects=400, objects=8, frequent=200, **SMALL, seed=3)
    guesser = Guesser(data.info["world"], np.random.default_rng(0))
    rows = {row.name: row for row in measure(guesser, data, prompts=4)}
    for task in ("fact_frequent", "fact_rare"):
        for metric, chance in (("exact_match", 1 / 8), ("choice_by_likelihood", 1 / 3)):
            row = rows[f"{task}.train.{metric}"]
            assert (row.count, row.chance) == (800, chance)
            assert within(row.value, row.count, chance)


def test_an_untrained_network_knows_nothing():
    """Choices at chance; generated answers at most so; text no better than its number of words."""
    data = knowledge(subjects=200, objects=8, frequent=100, **SMALL, seed=3)
    sizes = {"vocabulary": data.classes, "length": data.test.inputs.shape[1], "dim": 16, "depth": 1, "heads": 2}
    rows = {
        row.name: row
        for row in measure(make_model("language_model", np.random.default_rng(0), **sizes), data, prompts=50)
    }
    for task in ("fact_frequent", "fact_rare"):
        row = rows[f"{task}.train.choice_by_likelihood"]
        assert within(row.value, row.count, row.chance)
    for row in rows.values():
        if row.metric == "exact_match":
            assert row.value <= row.chance or within(row.value, row.count, row.chance)
    text = rows["text.test.perplexity"]
    assert text.value > text.chance > rows["text.test.least_perplexity"].value > 1


def test_counts_are_of_the_questions_asked():
    """8 subjects, 2 of them frequent, with 3 relations: 6 and 18 facts; 16 documents have 2 of text, 30 words each."""
    data = knowledge(subjects=8, relations=3, frequent=2, train=64, test=16)
    counts = {row.name: row.count for row in measure(Oracle(data.info["world"]), data, prompts=5)}
    assert counts["fact_frequent.train.exact_match"] == 6
    assert counts["fact_rare.train.exact_match"] == 18
    assert counts["text.test.perplexity"] == counts["text.test.least_perplexity"] == 2 * 30
    assert counts["find.test.exact_match"] == counts["find.train.f1"] == 5
    assert counts["documents.test.perplexity"] == np.count_nonzero(data.test.targets >= 0)


def test_a_seed_fixes_the_battery():
    data = knowledge(**SMALL)
    network = make_model("language_model", np.random.default_rng(0), vocabulary=data.classes, length=32, dim=8, heads=1)
    assert battery(network, data, seed=1, prompts=8) == battery(network, data, seed=1, prompts=8)


def test_a_table_of_scores():
    data = knowledge(**SMALL)
    frame = to_frame(measure(Oracle(data.info["world"]), data, prompts=4))
    assert list(frame.columns) == ["task", "split", "metric", "value", "count", "chance"]


class Zeros(Sparsifier):
    """Prunes every weight."""

    def forward_weight(self, layer, weight):
        return np.zeros_like(weight), None


def trainer_of(**more):
    return Trainer(
        TrainingFile.model_validate(
            {"kind": "training", "model": {"name": "language_model", "sizes": {"dim": 16, "depth": 1, "heads": 2}},
             "data": {"name": "knowledge", "options": SMALL}, "steps": 3, "batch": 16, "evaluate_every": 3,
             "schedule": {"name": "constant", "rate": 0.01}, "optimizer": {"name": "adamw"}, **more}
        )
    )  # fmt: skip


def test_a_trainer_is_judged_with_its_recipe_and_left_as_it_was():
    """Perplexity of all targets is exp of the trainer's own test loss; masks and searches stay the same."""
    trainer = trainer_of(recipe="srste", pattern="2:4")
    trainer.train()
    weights = [p.value.copy() for p in trainer.parameters]
    searches = dict(trainer.execution.searches)
    scores = battery(trainer, prompts=8)
    assert scores["documents.test.perplexity"] == pytest.approx(np.exp(trainer.evaluate()[0]), rel=1e-5)
    assert scores != battery(trainer.network, trainer.data, prompts=8)
    assert dict(trainer.execution.searches) == searches
    assert all((p.value == w).all() for p, w in zip(trainer.parameters, weights, strict=True))


def test_a_network_is_judged_with_the_sparsifier_given():
    trainer = trainer_of()
    dense = battery(trainer.network, trainer.data, prompts=8)
    assert dense == battery(trainer, prompts=8)
    assert dense != battery(trainer.network, trainer.data, Zeros(), prompts=8)


def test_subjects_that_cannot_be_judged():
    data = knowledge(**SMALL)
    oracle = Oracle(data.info["world"])
    with pytest.raises(UnsupportedError, match="'markov' has none"):
        battery(oracle, load_data("markov", train=8, test=8))
    with pytest.raises(UnsupportedError, match="judged on data"):
        battery(oracle)
    with pytest.raises(UnsupportedError, match="brings its own data"):
        battery(trainer_of(), data)
    with pytest.raises(DataError, match="prompts must be an integer at least 1, not 0"):
        battery(oracle, data, prompts=0)
    with pytest.raises(DataError, match="none of the 3 test documents is text"):
        battery(oracle, knowledge(train=8, test=3))


# The world


def test_documents_say_what_is_true():
    """Every target that is no text is what the oracle answers or an end, in documents of all tasks and both splits."""
    data = knowledge(train=80, test=80, seed=2)
    oracle = Oracle(data.info["world"])
    for name in ("train", "test"):
        split, tasks = data.split(name), data.info["tasks"][name]
        assert [TASKS[i] for i in tasks[: len(TURNS)]] == list(TURNS)
        for task, row, targets in zip(tasks, split.inputs.tolist(), split.targets.tolist(), strict=True):
            assert row[0] == data.info["world"].first[TASKS[task]]
            asked = [i for i, target in enumerate(targets) if target != IGNORED]
            assert [targets[i] for i in asked if i + 1 < len(row)] == [row[i + 1] for i in asked if i + 1 < len(row)]
            if TASKS[task] != "text":
                begin, answer = oracle.answer(row)
                assert targets[begin : begin + len(answer) + 1] == [*answer, END]
                assert all(target == IGNORED for target in targets[:begin])


def test_sets_are_held_out_of_training():
    """No set of keys or items is in both splits; no sum is, in the same order, though its other order is."""
    world = knowledge(**SMALL, seed=4).info["world"]
    rng = np.random.default_rng(0)

    def sets(task, held_out):
        prompts = world.items(task, rng, 3000, held_out).prompts
        last = 2 * world.sizes["told"] if task == "find" else world.sizes["listed"]
        return {frozenset(row) for row in prompts[:, 1 : 1 + last : 2 if task == "find" else 1].tolist()}

    for task in ("find", "sort"):
        seen, held = sets(task, False), sets(task, True)
        assert seen
        assert held
        assert not seen & held
    seen, held = ({tuple(r) for r in world.items("add", rng, 5000, h).prompts[:, 1:].tolist()} for h in (False, True))
    assert not seen & held
    assert all((b, a) in seen for a, b in held)
    assert len(seen | held) == world.sizes["number"] ** 2


def test_frequent_subjects_are_met_more_often():
    """Two of four subjects, each three times as likely: 3/8 of the facts each, to within five standard deviations."""
    world = knowledge(subjects=4, frequent=2, rarity=3, **SMALL).info["world"]
    subjects = world.items("fact", np.random.default_rng(0), 4000, False).prompts[:, 1] - world.first["subject"]
    shares = np.bincount(subjects, minlength=4) / 4000
    assert all(within(share, 4000, odds) for share, odds in zip(shares, [3 / 8, 3 / 8, 1 / 8, 1 / 8], strict=True))


@pytest.mark.parametrize("options", [{}, {"keys": 4, "items": 5}, {"modulus": 2}])
def test_every_seed_makes_a_world_with_sets_held_out_and_sets_seen(options):
    """56 sets of keys by default; of 4 sets of 3 keys, or one pair of numbers, marks often divide none: drawn again."""
    for seed in range(60):
        world = knowledge(train=8, test=8, seed=seed, **options).info["world"]
        for task, held_out in itertools.product(("find", "sort", "add"), (False, True)):
            assert len(world.items(task, np.random.default_rng(seed), 3, held_out)) == 3


@given(st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
def test_choices_are_different_and_the_right_one_is_anywhere(seed):
    world = knowledge(train=8, test=8, seed=seed).info["world"]
    right = world.facts()[0].answers[:, 0]
    offered, place = world.choices(right, np.random.default_rng(seed))
    assert (offered[np.arange(len(right)), place] == right).all()
    assert all(len(set(row)) == len(row) for row in offered.tolist())
    first, size = world.first["object"], world.sizes["object"]
    assert ((offered >= first) & (offered < first + size)).all()
    assert set(place.tolist()) == set(range(world.sizes["label"]))


def test_options_that_make_no_world():
    for options, message in (
        ({"frequent": 65}, "frequent must be an integer from 1 to 64"),
        ({"pairs": 9}, "pairs must be an integer from 1 to 8"),
        ({"length": 11}, "length must be an integer at least 12"),
        ({"rarity": 0.5}, "rarity must be at least 1"),
        ({"pairs": 8, "length": 40}, "too few different sets of words key"),
    ):
        with pytest.raises(DataError, match=message):
            knowledge(**SMALL, **options)
    with pytest.raises(NmsimError, match="unknown task with questions 'text'"):
        knowledge(**SMALL).info["world"].items("text", np.random.default_rng(0), 1, False)
