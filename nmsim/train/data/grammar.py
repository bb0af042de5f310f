"""Two small languages over the same meanings: plain English, and one with verbs last and adjectives after nouns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# English singular and plural, gender in the other language (0 or 1, not to be guessed from the word), its stem there.
NOUNS = (
    ("dog", "dogs", 0, "kelu"),
    ("cat", "cats", 1, "miro"),
    ("bird", "birds", 1, "tavi"),
    ("child", "children", 0, "posu"),
    ("woman", "women", 1, "dena"),
    ("man", "men", 0, "lomi"),
    ("house", "houses", 0, "gari"),
    ("tree", "trees", 1, "suno"),
    ("river", "rivers", 0, "wela"),
    ("stone", "stones", 1, "buki"),
    ("boat", "boats", 1, "hado"),
    ("star", "stars", 0, "zime"),
)
ADJECTIVES = (("red", "rot"), ("small", "pik"), ("young", "gam"), ("tall", "lun"), ("quiet", "sef"), ("bright", "klar"))
# English after a plural and after a singular subject, the stem in the other language.
TRANSITIVE = (
    ("see", "sees", "vid"),
    ("find", "finds", "trov"),
    ("carry", "carries", "port"),
    ("follow", "follows", "sekv"),
)
INTRANSITIVE = (("sleep", "sleeps", "dorm"), ("sing", "sings", "kant"), ("wait", "waits", "stan"))
# English with a singular and with a plural noun (None: does not exist), the stem in the other language.
DETERMINERS: tuple[tuple[str | None, str | None, str], ...] = (
    ("the", "the", "l"),
    ("a", None, "un"),
    (None, "some", "kelk"),
    ("this", "these", "tis"),
)
PREPOSITIONS = (("near", "apu"), ("behind", "malo"), ("under", "subi"))

OBJECT_MARK = "en"
_ENDINGS = (("o", "i"), ("a", "e"))  # by gender, then singular and plural
_PLURAL = "n"


@dataclass(frozen=True)
class NounPhrase:
    """A noun by its row in NOUNS, with determiner, adjectives and place by theirs; `place` is (preposition, phrase)."""

    noun: int
    plural: bool
    determiner: int
    adjectives: tuple[int, ...] = ()
    place: tuple[int, NounPhrase] | None = None


@dataclass(frozen=True)
class Sentence:
    """A subject and what it does: `verb` is a row of TRANSITIVE with an object, of INTRANSITIVE without."""

    subject: NounPhrase
    verb: int
    object: NounPhrase | None = None


def source_words(sentence: Sentence) -> list[str]:
    """The sentence in English: subject, verb that agrees with it in number, object; adjectives before, places after."""
    verbs = TRANSITIVE if sentence.object else INTRANSITIVE
    verb = verbs[sentence.verb][0 if sentence.subject.plural else 1]
    return [*_source_phrase(sentence.subject), verb, *(_source_phrase(sentence.object) if sentence.object else ())]


def target_words(sentence: Sentence) -> list[str]:
    """The sentence in the other language: subject, object with its mark, and last the verb.

    A phrase is place, preposition, noun, adjectives, determiner. Adjectives and determiner take the ending of their
    noun's gender and number; the verb takes that of its subject and then, if it has one, that of its object.
    """
    verbs = TRANSITIVE if sentence.object else INTRANSITIVE
    verb = verbs[sentence.verb][2] + _ending(sentence.subject)
    if sentence.object is None:
        return [*_target_phrase(sentence.subject), verb]
    verb += _ending(sentence.object)
    return [*_target_phrase(sentence.subject), *_target_phrase(sentence.object), OBJECT_MARK, verb]


def random_sentence(rng: np.random.Generator) -> Sentence:
    """A sentence drawn from the grammar: two in three have an object, one phrase in three a place."""
    subject = _random_phrase(rng, depth=0)
    if rng.random() < 1 / 3:
        return Sentence(subject, int(rng.integers(len(INTRANSITIVE))))
    return Sentence(subject, int(rng.integers(len(TRANSITIVE))), _random_phrase(rng, depth=0))


def vocabulary() -> tuple[list[str], list[str]]:
    """Every word of English, then every word of the other language, each in order of the tables."""
    source = [w for one, many, _, _ in NOUNS for w in (one, many)] + [english for english, _ in ADJECTIVES]
    source += [w for plain, third, _ in (*TRANSITIVE, *INTRANSITIVE) for w in (plain, third)]
    source += [w for one, many, _ in DETERMINERS for w in (one, many) if w] + [w for w, _ in PREPOSITIONS]
    endings = [e for gender in _ENDINGS for e in gender]
    target = [w for *_, stem in NOUNS for w in (stem, stem + _PLURAL)]
    target += [stem + e for _, stem in ADJECTIVES for e in endings]
    target += [stem + a + b for *_, stem in TRANSITIVE for a in endings for b in endings]
    target += [stem + e for *_, stem in INTRANSITIVE for e in endings]
    for one, many, stem in DETERMINERS:
        target += [stem + e[n] for e in _ENDINGS for n, exists in enumerate((one, many)) if exists]
    target += [*(stem for _, stem in PREPOSITIONS), OBJECT_MARK]
    return list(dict.fromkeys(source)), list(dict.fromkeys(target))


def _source_phrase(phrase: NounPhrase) -> list[str]:
    determiner = DETERMINERS[phrase.determiner][:2][int(phrase.plural)]
    words = [
        str(determiner),
        *(ADJECTIVES[a][0] for a in phrase.adjectives),
        NOUNS[phrase.noun][:2][int(phrase.plural)],
    ]
    if phrase.place:
        preposition, where = phrase.place
        words += [PREPOSITIONS[preposition][0], *_source_phrase(where)]
    return words


def _target_phrase(phrase: NounPhrase) -> list[str]:
    words: list[str] = []
    if phrase.place:
        preposition, where = phrase.place
        words = [*_target_phrase(where), PREPOSITIONS[preposition][1]]
    ending = _ending(phrase)
    words.append(NOUNS[phrase.noun][3] + (_PLURAL if phrase.plural else ""))
    return [*words, *(ADJECTIVES[a][1] + ending for a in phrase.adjectives), DETERMINERS[phrase.determiner][2] + ending]


def _ending(phrase: NounPhrase) -> str:
    return _ENDINGS[NOUNS[phrase.noun][2]][int(phrase.plural)]


def _random_phrase(rng: np.random.Generator, depth: int) -> NounPhrase:
    plural = bool(rng.random() < 0.5)
    fitting = [i for i, row in enumerate(DETERMINERS) if row[int(plural)]]
    many = int(rng.choice(3, p=(0.5, 0.35, 0.15)))
    adjectives = tuple(int(a) for a in rng.permutation(len(ADJECTIVES))[:many])
    place = None
    if depth < 2 and rng.random() < 1 / 3:
        place = int(rng.integers(len(PREPOSITIONS))), _random_phrase(rng, depth + 1)
    return NounPhrase(int(rng.integers(len(NOUNS))), plural, fitting[rng.integers(len(fitting))], adjectives, place)
