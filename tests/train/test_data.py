"""Generated data are what they say and the same for the same seed; files are read exactly or refused with a reason."""

import gzip
import inspect
import io
import json
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmsim.errors import NmsimError
from nmsim.train.data import (
    GENERATED,
    IGNORED,
    Batches,
    DataError,
    Dataset,
    Split,
    decoder_inputs,
    from_cifar,
    from_idx,
    from_npz,
    from_text,
    images,
    load_data,
    markov,
    recall,
    signals,
    translation,
)
from nmsim.train.data.grammar import NounPhrase, Sentence, source_words, target_words
from nmsim.train.data.sequences import entropy_rate_nats, stationary_pairs

SMALL = {name: {"train": 96, "test": 32} for name in GENERATED}


def arrays(data):
    return [data.train.inputs, data.train.targets, data.test.inputs, data.test.targets]


# Generated data


@pytest.mark.parametrize("name", GENERATED)
def test_a_seed_fixes_every_bit(name):
    one, two = (load_data(name, seed=5, **SMALL[name]) for _ in range(2))
    passed = GENERATED[name](seed=np.random.default_rng(5), **SMALL[name])
    other = load_data(name, seed=6, **SMALL[name])
    for a, b, c in zip(arrays(one), arrays(two), arrays(passed), strict=True):
        assert a.dtype == b.dtype
        assert a.tobytes() == b.tobytes() == c.tobytes()
    assert one.train.inputs.tobytes() != other.train.inputs.tobytes()
    assert one.train.inputs[:32].tobytes() != one.test.inputs.tobytes()


@pytest.mark.parametrize("name", GENERATED)
def test_options_out_of_range_are_named(name):
    with pytest.raises(DataError, match="train must be an integer at least 1, not 0"):
        load_data(name, train=0)
    with pytest.raises(DataError, match="seed must be a non-negative integer"):
        GENERATED[name](seed=None)
    with pytest.raises(DataError, match=f"unknown option of {name} 'trian'; did you mean train"):
        load_data(name, trian=5)


@pytest.mark.parametrize("name", ["images", "signals"])
def test_classes_are_balanced(name):
    data = load_data(name, train=97, test=40)
    counts = np.bincount(data.train.targets, minlength=10)
    assert counts.max() - counts.min() == 1  # 97 = 9 * 10 + 7
    assert (np.bincount(data.test.targets) == 4).all()


@pytest.mark.parametrize(("size", "channels", "classes"), [(32, 3, 10), (8, 1, 2), (20, 4, 120)])
def test_images_have_their_shape_and_scale(size, channels, classes):
    data = images(classes, size, channels, train=240, test=60, seed=1)
    assert data.train.inputs.shape == (240, size, size, channels)
    assert data.train.inputs.dtype == np.float32
    assert data.test.inputs.shape == (60, size, size, channels)
    assert abs(data.train.inputs.mean()) < 1e-4
    assert data.train.inputs.std() == pytest.approx(1, abs=1e-4)
    assert data.test.inputs.std() == pytest.approx(1, abs=0.1)  # 60 images of random colours
    assert len(set(data.info["class_names"])) == classes


def test_without_noise_or_shift_a_figure_is_still_different_each_time():
    data = images(classes=1, train=8, test=1, shift=0, noise=0.0)
    assert len({x.tobytes() for x in data.train.inputs}) == 8


def linear_accuracy(data, ridge=1e3):
    """Test accuracy of least squares on one-hot targets, with a constant input."""

    def rows(split):
        flat = split.inputs.reshape(len(split), -1)
        return np.concatenate([flat, np.ones((len(flat), 1), flat.dtype)], axis=1)

    x, y = rows(data.train), np.eye(data.classes)[data.train.targets]
    weights = np.linalg.solve(x.T @ x + ridge * np.eye(x.shape[1]), x.T @ y)
    return float(((rows(data.test) @ weights).argmax(axis=1) == data.test.targets).mean())


def test_images_are_not_for_linear_classifiers():
    """Colours are of either sign, so the mean image of every class is nearly the same: chance is 0.1."""
    assert linear_accuracy(images()) < 0.25


def test_signals_are_not_for_linear_classifiers_but_neighbours_of_one_class_are_alike():
    data = signals(seed=3)
    assert data.train.inputs.shape == (4096, 40)
    assert data.train.inputs.dtype == np.float32
    assert linear_accuracy(data) < 0.6
    still = signals(train=1000, test=200, shift=0, noise=0.05, shear=0.0)
    apart = ((still.test.inputs[:, None] - still.train.inputs[None]) ** 2).sum(axis=2)
    assert (still.train.targets[apart.argmin(axis=1)] == still.test.targets).mean() > 0.98


def test_recall_asks_for_what_was_told():
    """Each query's target is the value that stood right after that key; everything else is ignored."""
    data = recall(pairs=5, queries=2, keys=7, values=3, train=50, test=5)
    assert data.train.inputs.shape == data.train.targets.shape == (50, 12)
    for row, asked in zip(data.train.inputs.tolist(), data.train.targets.tolist(), strict=True):
        told = dict(zip(row[:10:2], row[1:10:2], strict=True))
        assert len(told) == 5
        assert all(k < 7 for k in told)
        assert all(7 <= v < 10 for v in told.values())
        assert row[10] != row[11]
        assert asked == [IGNORED] * 10 + [told[row[10]], told[row[11]]]


def test_recall_needs_enough_keys():
    with pytest.raises(DataError, match="9 pairs need as many different keys, and there are only 8"):
        recall(pairs=9, keys=8)


def test_entropy_rate_of_a_chain_counted_by_hand():
    """The next of two words repeats the last with 0.9: pairs aa and bb are each 0.45, H = -0.9 ln 0.9 - 0.1 ln 0.1."""
    chain = np.array([[[0.9, 0.1], [0.1, 0.9]]] * 2)
    pairs = stationary_pairs(chain)
    np.testing.assert_allclose(pairs, [[0.45, 0.05], [0.05, 0.45]], atol=1e-12)
    assert entropy_rate_nats(chain, pairs) == pytest.approx(-0.9 * np.log(0.9) - 0.1 * np.log(0.1), abs=1e-12)


def test_markov_text_has_the_entropy_it_claims():
    """Two estimates from 127,000 words: the mean surprise under the chain, and the entropy of counted triples.

    A word's surprise spreads by about 0.6 nats, so the mean is known to about 0.6 / sqrt(127000) = 0.0017; the counted
    entropy is low by about 36 * 5 / (2 * 127000) = 0.0007 (Miller and Madow). Five standard errors: 0.01.
    """
    data = markov(vocabulary=6, length=128, train=1000, test=10, concentration=0.3, seed=4)
    text, following = data.train.inputs, data.train.targets
    assert (following[:, 0] == IGNORED).all()
    assert (following[:, 1:-1] == text[:, 2:]).all()
    before, last, after = text[:, :-1].ravel(), text[:, 1:].ravel(), following[:, 1:].ravel()
    surprise = -np.log(data.info["transition"][before, last, after]).mean()
    assert surprise == pytest.approx(data.info["entropy_rate_nats"], abs=0.01)
    counts = np.zeros((6, 6, 6))
    np.add.at(counts, (before, last, after), 1)
    share = counts / counts.sum()
    odds = counts / np.maximum(counts.sum(axis=2, keepdims=True), 1)
    counted = -(share * np.log(np.where(odds > 0, odds, 1))).sum()
    assert counted == pytest.approx(data.info["entropy_rate_nats"], abs=0.01)


# Translation

DOG, CAT, HOUSE, TREE = 0, 1, 6, 7
THE, A, SOME, THIS = range(4)


@pytest.mark.parametrize(
    ("sentence", "english", "other"),
    [
        (Sentence(NounPhrase(DOG, False, THE), 0), "the dog sleeps", "kelu lo dormo"),
        (Sentence(NounPhrase(CAT, True, THIS, (0,)), 1), "these red cats sing", "miron rote tise kante"),
        (
            Sentence(NounPhrase(DOG, True, THE, (1,), (0, NounPhrase(TREE, False, A))), 0, NounPhrase(CAT, False, THE)),
            "the small dogs near a tree see the cat",
            "suno una apu kelun piki li miro la en vidia",
        ),
        (
            Sentence(NounPhrase(CAT, False, A), 3, NounPhrase(HOUSE, True, SOME, (2, 3))),
            "a cat follows some young tall houses",
            "miro una garin gami luni kelki en sekvai",
        ),
    ],
)
def test_sentences_translated_by_hand(sentence, english, other):
    """dog and house have the endings o, i; cat and tree a, e. Verbs end like their subject, then their object."""
    assert " ".join(source_words(sentence)) == english
    assert " ".join(target_words(sentence)) == other


STEMS = (
    "dog:kelu:o cat:miro:a bird:tavi:a child:posu:o woman:dena:a man:lomi:o house:gari:o tree:suno:a river:wela:o "
    "stone:buki:a boat:hado:a star:zime:o"
)
MANY = {"child": "children", "woman": "women", "man": "men"}
MODIFIERS = {
    **{"red": "rot", "small": "pik", "young": "gam", "tall": "lun", "quiet": "sef", "bright": "klar"},
    **{"the": "l", "a": "un", "some": "kelk", "this": "tis", "these": "tis"},
}
VERBS = {
    **{"see": "vid", "find": "trov", "carry": "port", "follow": "sekv"},
    **{"sleep": "dorm", "sing": "kant", "wait": "stan"},
}
PLACES = {"near": "apu", "behind": "malo", "under": "subi"}


def reference_translation(english):
    """The other language worked out from English words alone: cut at the verb, phrases built from behind."""
    nouns = {}
    for entry in STEMS.split():
        one, stem, vowel = entry.split(":")
        nouns[one] = (stem, vowel)
        nouns[MANY.get(one, one + "s")] = (stem + "n", {"o": "i", "a": "e"}[vowel])
    forms = {form: stem for verb, stem in VERBS.items() for form in (verb, verb + "s", verb[:-1] + "ies")}
    words = english.split()
    at = next(i for i, word in enumerate(words) if word in forms)

    def phrase(part):
        said, determiner, adjectives, vowel = [], "", [], ""
        head = ""
        for word in part:
            if word in PLACES:
                said.insert(0, PLACES[word])
                determiner, adjectives = "", []
            elif word in nouns:
                stem, vowel = nouns[word]
                head = head or vowel
                said = [stem, *(a + vowel for a in adjectives), determiner + vowel, *said]
            elif determiner:
                adjectives.append(MODIFIERS[word])
            else:
                determiner = MODIFIERS[word]
        return said, head

    subject, ending = phrase(words[:at])
    if at + 1 == len(words):
        return " ".join([*subject, forms[words[at]] + ending])
    thing, second = phrase(words[at + 1 :])
    return " ".join([*subject, *thing, "en", forms[words[at]] + ending + second])


def test_every_generated_translation_follows_the_rules():
    data = translation(train=1500, test=100, seed=8)
    for split in (data.train, data.test):
        for source, target in zip(split.inputs, split.targets, strict=True):
            assert data.decode(target) == reference_translation(data.decode(source))


def test_translation_arrays():
    data = translation(train=300, test=60, source_length=9, target_length=10, seed=2)
    assert data.train.inputs.shape == (300, 9)
    assert data.test.targets.shape == (60, 10)
    assert 100 <= data.classes <= 200
    assert len(set(data.info["words"])) == data.classes
    assert ((data.train.inputs == data.info["eos"]).sum(axis=1) == 1).all()
    assert ((data.train.targets == data.info["eos"]).sum(axis=1) == 1).all()
    ended = (data.train.targets == data.info["eos"]).cumsum(axis=1) - (data.train.targets == data.info["eos"])
    assert ((data.train.targets == IGNORED) == ended.astype(bool)).all()
    rows = {row.tobytes() for split in (data.train, data.test) for row in split.inputs}
    assert len(rows) == 360


def test_decoder_inputs_are_the_targets_one_later():
    """Targets 7 8 end: the decoder reads begin 7 8, then the end mark, then padding."""
    targets = np.array([[7, 8, 2, -1, -1]], np.int32)
    assert decoder_inputs(targets).tolist() == [[1, 7, 8, 2, 0]]


def test_translation_says_when_lengths_are_too_short():
    with pytest.raises(DataError, match=r"of 900 different sentences were found with source_length 4"):
        translation(train=890, test=10, source_length=4, target_length=4)


def test_decode_needs_words():
    with pytest.raises(DataError, match="signals: a dataset of signals without words has nothing to decode"):
        signals(train=10, test=10).decode(np.array([1]))
    with pytest.raises(DataError, match="id 99 is outside the vocabulary of 64"):
        recall(train=10, test=10).decode(np.array([99]))


# Batches


def numbered(count):
    return np.arange(count * 2, dtype=np.float32).reshape(count, 2), np.arange(count, dtype=np.int32)


def test_an_epoch_has_every_example_once():
    batches = Batches(*numbered(10), 4, np.random.default_rng(0), drop_last=False)
    first, second = (np.concatenate([y for _, y in batches]).tolist() for _ in range(2))
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second
    assert batches.epoch == 2


def test_the_rest_is_dropped_and_the_order_kept_on_request():
    batches = Batches(*numbered(10), 4, shuffle=False)
    assert len(batches) == 2
    assert [y.tolist() for _, y in batches] == [[0, 1, 2, 3], [4, 5, 6, 7]]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 30), st.integers(1, 9), st.integers(0, 25), st.booleans(), st.booleans(), st.integers(0, 2**32 - 1)
)
def test_a_resumed_run_sees_the_same_batches(count, batch, before, shuffle, drop_last, seed):
    """Stopped after any number of batches, saved as JSON, restored under another rng: the next 12 are the same."""
    batch = min(batch, count)
    make = lambda s: Batches(*numbered(count), batch, np.random.default_rng(s), shuffle, drop_last)  # noqa: E731
    first, resumed = make(seed), make(seed + 1)
    stream = first.endless()
    for _ in range(before):
        next(stream)
    resumed.restore(json.loads(json.dumps(first.state())))
    later = resumed.endless()
    for _ in range(12):
        (x, y), (again_x, again_y) = next(stream), next(later)
        assert y.tolist() == again_y.tolist()
        assert x.tobytes() == again_x.tobytes()
    assert first.state() == resumed.state()


def test_a_loop_left_early_goes_on_where_it_stopped():
    batches = Batches(*numbered(8), 2, np.random.default_rng(1))
    whole = [y.tolist() for _, y in Batches(*numbered(8), 2, np.random.default_rng(1))]
    seen = [next(iter(batches))[1].tolist()]
    seen += [y.tolist() for _, y in batches]
    assert seen == whole


def test_other_draws_from_the_rng_do_not_change_later_epochs():
    rng = np.random.default_rng(3)
    disturbed = []
    for _, y in Batches(*numbered(6), 3, rng).endless():
        rng.random(5)
        disturbed.append(y.tolist())
        if len(disturbed) == 6:
            break
    calm = Batches(*numbered(6), 3, np.random.default_rng(3)).endless()
    assert disturbed == [next(calm)[1].tolist() for _ in range(6)]


def test_batches_refuse_what_cannot_be():
    with pytest.raises(DataError, match="batch 11 is larger than the split of 10"):
        Batches(*numbered(10), 11, np.random.default_rng(0))
    with pytest.raises(DataError, match="need a numpy Generator"):
        Batches(*numbered(10), 2)
    batches = Batches(*numbered(10), 2, shuffle=False)
    with pytest.raises(DataError, match="have batch 5, this run has 2"):
        batches.restore({**batches.state(), "batch": 5})
    with pytest.raises(DataError, match="position 3 is no multiple of the batch 2"):
        batches.restore({**batches.state(), "position": 3})
    with pytest.raises(DataError, match="position must be an integer from 0 to 9, not 10"):
        batches.restore({**batches.state(), "position": 10})
    with pytest.raises(DataError, match="lacks epoch"):
        batches.restore({k: v for k, v in batches.state().items() if k != "epoch"})


def test_a_dataset_gives_its_batches():
    data = signals(train=20, test=10)
    assert [len(x) for x, _ in data.batches("test", 4, shuffle=False, drop_last=False)] == [4, 4, 2]
    with pytest.raises(DataError, match="unknown split 'tset'; did you mean test"):
        data.batches("tset", 4)


def test_a_dataset_checks_its_arrays():
    x, y = np.zeros((3, 4), np.float32), np.array([0, 1, 2])
    with pytest.raises(DataError, match="3 inputs but 2 targets"):
        Split(x, y[:2])
    with pytest.raises(DataError, match="targets must be integers"):
        Split(x, y.astype(float))
    with pytest.raises(DataError, match=r"inputs\[1, 2\] is nan"):
        Split(np.where(np.arange(12).reshape(3, 4) == 6, np.nan, x), y)
    good = Split(x, y)
    with pytest.raises(DataError, match=r"train target\[2\] is 2; allowed: 0 to 1 or -1"):
        Dataset("mine", "signals", good, good, 2)
    with pytest.raises(DataError, match="unknown kind of data 'signal'; did you mean signals"):
        Dataset("mine", "signal", good, good, 3)
    with pytest.raises(DataError, match="images need inputs of 4 axes"):
        Dataset("mine", "images", good, good, 3)
    assert issubclass(DataError, NmsimError)


# IDX


def idx_bytes(array):
    header = bytes((0, 0, 8, array.ndim)) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture
def mnist(tmp_path):
    """Two training images and one test image of 2 by 3 pixels, the training labels zipped."""
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx_bytes(np.array([[[0, 255, 0], [0, 0, 0]]] * 2)))
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(np.array([7, 3]))))
    (tmp_path / "t10k-images.idx3-ubyte").write_bytes(idx_bytes(np.full((1, 2, 3), 255)))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(np.array([9])))
    return tmp_path


def test_idx_files_made_by_hand(mnist):
    """One pixel in six is white: mean 1/6, variance 5/36, so black is -1/sqrt(5) and white 5/sqrt(5)."""
    data = from_idx(mnist)
    assert data.train.inputs.shape == (2, 2, 3, 1)
    np.testing.assert_allclose(
        data.train.inputs[0, :, :, 0], [[-(5**-0.5), 5**0.5, -(5**-0.5)], [-(5**-0.5)] * 3], 1e-6
    )
    np.testing.assert_allclose(data.test.inputs, 5**0.5, 1e-6)
    assert data.train.targets.tolist() == [7, 3]
    assert data.test.targets.tolist() == [9]
    assert load_data(mnist).train.inputs.tobytes() == data.train.inputs.tobytes()


def test_idx_files_that_are_wrong(mnist):
    pixels, labels = mnist / "train-images-idx3-ubyte", mnist / "train-labels-idx1-ubyte.gz"
    good, good_labels = pixels.read_bytes(), labels.read_bytes()

    def refused(path, content, message):
        before = path.read_bytes()
        path.write_bytes(content)
        with pytest.raises(DataError, match=message) as caught:
            from_idx(mnist)
        assert str(caught.value).startswith(str(mnist))
        path.write_bytes(before)

    refused(pixels, b"\0\0\x0d\3" + good[4:], "wrong magic number 0x00000d03; 0x00000803 is")
    refused(pixels, good[:-1], "truncated: 27 bytes, expected 28")
    refused(pixels, good + b"x", "29 bytes, expected 28")
    refused(pixels, good[:9], "truncated: 9 bytes, the header alone takes 16")
    refused(pixels, good[:4] + b"\xff" * 12, "the header gives sizes")
    refused(pixels, idx_bytes(np.zeros((3, 2, 3))), "2 labels, but train-images-idx3-ubyte has 3 images")
    refused(labels, good_labels[:-9], "truncated: the compressed data end too early")
    refused(labels, b"hello", "not a valid gzip file")
    refused(labels, gzip.compress(idx_bytes(np.array([7, 3])) + b"x"), "it goes on after the 10 bytes")
    refused(labels, gzip.compress(idx_bytes(np.array([7, 3]))[:-1]), "truncated: it ends before the 10 bytes")
    refused(labels, gzip.compress(idx_bytes(np.array([7, 10]))), "label 1 is 10; allowed: 0 to 9")
    refused(mnist / "t10k-images.idx3-ubyte", idx_bytes(np.zeros((1, 2, 2))), r"train images are \(2, 3\)")
    labels.unlink()
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte: there is no such file"):
        from_idx(mnist)
    with pytest.raises(DataError, match="there is no such folder"):
        from_idx(mnist / "none")


# CIFAR


def cifar_record(*labels, red=0, green=0, blue=0):
    """Labels, then 1024 red, 1024 green and 1024 blue bytes; the very first red one is 255."""
    return bytes((*labels, 255)) + bytes([red] * 1023 + [green] * 1024 + [blue] * 1024)


@pytest.fixture
def cifar10(tmp_path):
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for i in range(1, 6):
        (folder / f"data_batch_{i}.bin").write_bytes(cifar_record(i, green=255 * (i % 2), blue=100))
    (folder / "test_batch.bin").write_bytes(cifar_record(9) + cifar_record(0))
    return tmp_path


def test_cifar_10_made_by_hand(cifar10):
    """Green is white in 3 images of 5: mean 0.6, deviation sqrt(0.24). Red has one white pixel, at row 0, column 0."""
    data = from_cifar(cifar10)
    assert data.train.inputs.shape == (5, 32, 32, 3)
    assert data.train.targets.tolist() == [1, 2, 3, 4, 5]
    assert data.test.targets.tolist() == [9, 0]
    np.testing.assert_allclose(data.train.inputs[0, :, :, 1], 0.4 / 0.24**0.5, 1e-6)
    np.testing.assert_allclose(data.train.inputs[1, :, :, 1], -0.6 / 0.24**0.5, 1e-6)
    assert np.argwhere(data.train.inputs[0, :, :, 0] > 0).tolist() == [[0, 0]]
    assert data.info["mean"] == pytest.approx([1 / 1024, 0.6, 100 / 255])
    assert load_data(str(cifar10)).classes == 10


def test_cifar_100_uses_fine_labels(tmp_path):
    (tmp_path / "train.bin").write_bytes(cifar_record(3, 77) + cifar_record(19, 99))
    (tmp_path / "test.bin").write_bytes(cifar_record(3, 5))
    data = from_cifar(tmp_path, classes=100)
    assert data.train.targets.tolist() == [77, 99]
    assert load_data(tmp_path).name == "cifar100"


def test_cifar_files_that_are_wrong(cifar10):
    path = cifar10 / "cifar-10-batches-bin" / "data_batch_2.bin"
    good = path.read_bytes()
    for content, message in (
        (good[:-1], "3072 bytes are no whole number of records of 3073"),
        (b"", "0 bytes are no whole number"),
        (good + cifar_record(10), "label of record 1 is 10; allowed: 0 to 9"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=f"data_batch_2.bin: {message}"):
            from_cifar(cifar10)
    path.unlink()
    with pytest.raises(DataError, match=r"data_batch_2.bin: there is no such file"):
        from_cifar(cifar10)
    with pytest.raises(DataError, match="CIFAR has 10 or 100 classes, not 20"):
        from_cifar(cifar10, classes=20)


# Arrays of one's own


def saved(tmp_path, **changes):
    content = {
        "train_x": np.arange(12.0).reshape(4, 3),
        "train_y": np.array([0, 1, 2, 1]),
        "test_x": np.ones((2, 3)),
        "test_y": np.array([0, 2], np.uint8),
    }
    content.update(changes)
    path = tmp_path / "mine.npz"
    np.savez(path, **{k: v for k, v in content.items() if v is not None})
    return path


def test_npz_gives_its_arrays(tmp_path):
    data = load_data(saved(tmp_path))
    assert (data.name, data.kind, data.classes) == ("mine", "signals", 3)
    assert data.train.inputs.dtype == np.float32
    assert data.train.inputs.tolist() == np.arange(12.0).reshape(4, 3).tolist()
    assert data.test.targets.tolist() == [0, 2]


def test_npz_kinds_are_told_by_the_arrays(tmp_path):
    ids = np.arange(12).reshape(4, 3)
    same = from_npz(saved(tmp_path, train_x=ids, train_y=ids, test_x=ids, test_y=ids - 1))
    assert (same.kind, same.classes) == ("tokens", 12)
    longer = np.zeros((4, 5), int)
    pair = from_npz(saved(tmp_path, train_x=ids, train_y=longer, test_x=ids, test_y=longer))
    assert pair.kind == "sequence_to_sequence"
    shades = np.arange(48, dtype=np.uint8).reshape(4, 2, 2, 3)
    picture = from_npz(saved(tmp_path, train_x=shades, test_x=shades[:2]))
    assert picture.kind == "images"
    np.testing.assert_allclose(picture.train.inputs.std(axis=(0, 1, 2)), 1, 1e-5)


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"test_y": None}, {}, "lacks the array 'test_y'; it has test_x, train_x, train_y"),
        ({"train_x": np.array([[0.0, np.nan, 1]] * 4)}, {}, r"train_x\[0, 1\] is nan; allowed: finite"),
        ({"train_x": np.full((4, 3), 1e39)}, {}, r"train_x\[0, 0\] is 1e\+39; allowed: finite float32"),
        ({"train_x": np.array([[None, 1, 2]] * 4)}, {}, "holds object; only numbers are read, never pickled"),
        ({"train_y": np.array(["a"] * 4)}, {}, "only numbers are read"),
        ({"train_y": np.array([0, 1])}, {}, "train: 4 inputs but 2 targets"),
        ({"train_y": np.array([0.0, 1, 2, 3])}, {}, "train_y must hold integers, not float64"),
        ({"train_y": np.array([0, 1, -2, 3])}, {}, r"train_y\[2\] is -2; allowed: 0 to 3 or -1"),
        ({}, {"classes": 2}, r"train_y\[2\] is 2; allowed: 0 to 1 or -1"),
        ({"test_x": np.ones((2, 4))}, {}, r"train inputs \(4, 3\) and test inputs \(2, 4\) differ"),
        ({}, {"kind": "images"}, "images need inputs of 4 axes"),
        ({}, {"max_bytes": 100}, "at most 100 are read"),
    ],
)
def test_npz_that_are_wrong(tmp_path, changes, options, message):
    path = saved(tmp_path, **changes)
    with pytest.raises(DataError, match=message) as caught:
        from_npz(path, **options)
    assert str(caught.value).startswith(str(path))


def test_npz_members_are_checked_before_they_are_read(tmp_path):
    """A header that promises 8e15 bytes in front of eight is refused before anything of that size is asked for."""
    path, stream = tmp_path / "mine.npz", io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"shape": (10**15,), "fortran_order": False, "descr": "<f8"})
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("train_x", "train_y", "test_x", "test_y"):
            archive.writestr(f"{name}.npy", stream.getvalue() + bytes(8))
    with pytest.raises(DataError, match=r"train_x\.npy has 136 bytes, its header gives 8000000000000128"):
        from_npz(path)


def test_npz_that_are_no_archives(tmp_path):
    path = saved(tmp_path)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"not a valid \.npz file"):
        from_npz(path)
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("train_x", "train_y", "test_x", "test_y"):
            archive.writestr(f"{name}.npy", b"no array at all")
    with pytest.raises(DataError, match=r"train_x\.npy is not a valid array"):
        from_npz(path)
    with pytest.raises(DataError, match="there is no such file"):
        from_npz(tmp_path / "none.npz")
    with pytest.raises(DataError, match="cannot be read"):
        from_npz(tmp_path)


# Text


def test_text_by_character(tmp_path):
    """13 characters in windows of 3: four windows and a last target; a quarter of them, one, is the test."""
    path = tmp_path / "words.txt"
    path.write_text("abcébcabcabcx", encoding="utf-8")
    data = from_text(path, 3, test_part=0.25)
    assert data.info["words"] == ("a", "b", "c", "x", "é")
    assert data.train.inputs.tolist() == [[0, 1, 2], [4, 1, 2], [0, 1, 2]]
    assert data.train.targets.tolist() == [[1, 2, 4], [1, 2, 0], [1, 2, 0]]
    assert data.decode(data.test.inputs[0]) == "abc"
    assert data.test.targets.tolist() == [[1, 2, 3]]


def test_text_by_byte_takes_any_file(tmp_path):
    path = tmp_path / "any.bin"
    path.write_bytes(bytes([0, 255, 10, 13, 200]))
    data = load_data(path, length=2, by="byte")
    assert data.classes == 256
    assert data.train.inputs.tolist() == [[0, 255]]
    assert data.test.targets.tolist() == [[13, 200]]


def test_text_that_is_wrong(tmp_path):
    path = tmp_path / "words.txt"
    path.write_bytes(b"abc\xffdef")
    with pytest.raises(DataError, match=r"words.txt: byte 3 is not UTF-8 .* read it by='byte'"):
        from_text(path, 2)
    with pytest.raises(DataError, match="7 bytes; windows of 4 for train and test need 9"):
        from_text(path, 4, by="byte")
    with pytest.raises(DataError, match="unknown way to cut text 'bytes'; did you mean byte"):
        from_text(path, 4, by="bytes")
    with pytest.raises(DataError, match="test_part must lie between 0 and 1, not 1"):
        from_text(path, 2, test_part=1)
    with pytest.raises(DataError, match="there is no such file"):
        from_text(tmp_path / "none.txt")


# By name


def test_names_that_do_not_exist(tmp_path):
    with pytest.raises(DataError, match="unknown dataset 'imges'; did you mean images"):
        load_data("imges")
    with pytest.raises(DataError, match=r"cifar.npz: there is no such file or folder"):
        load_data("cifar.npz")
    with pytest.raises(DataError, match="holds neither CIFAR"):
        load_data(tmp_path)


@pytest.mark.parametrize("name", GENERATED)
def test_every_maker_takes_the_same_three(name):
    assert {"train", "test", "seed"} <= set(inspect.signature(GENERATED[name]).parameters)
