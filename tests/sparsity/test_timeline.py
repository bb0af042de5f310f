"""The course of a recipe: spans cover the run, beta falls to exactly 0 where products get sparse, patterns tighten."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nmsim.errors import PatternError, UnsupportedError
from nmsim.sparsity.moment import parse_moment, step_of
from nmsim.sparsity.pattern import Pattern
from nmsim.sparsity.recipe import Recipe, all_recipes, get_recipe
from nmsim.sparsity.timeline import Span, Timeline

TRAINED = [recipe for recipe in all_recipes() if recipe.trains]
SHARES = st.integers(0, 20).map(lambda n: n / 20)
MOMENTS = st.one_of(SHARES, st.integers(0, 60))


def line(asked: Any, pattern: str = "2:4", steps: int = 20, start: int | None = None) -> Timeline:
    return Timeline.of(get_recipe(asked), Pattern.parse(pattern), steps, start)


def spans(asked: Any, pattern: str = "2:4", steps: int = 20) -> list[tuple[int, int, str, bool]]:
    return [(s.first_step, s.steps, str(s.pattern), s.soft) for s in line(asked, pattern, steps).spans]


@pytest.mark.parametrize(
    ("text", "value"),
    [("30 %", 0.3), ("30%", 0.3), (" 12.5 % ", 0.125), ("0 %", 0.0), ("100 %", 1.0), (0.3, 0.3), (1.0, 1.0), (0, 0),
     (1, 1), (300, 300)],
)  # fmt: skip
def test_moments_that_are_written(text: Any, value: float):
    """A text with % and a float are shares, a whole number is a step: 1 is the second step, 1.0 the end."""
    parsed = parse_moment(text)
    assert (parsed, type(parsed)) == (value, type(value))


@pytest.mark.parametrize(
    "text", ["", "%", "30", "30 percent", "-3 %", "1.2.3 %", ". %", "1e2 %", None, True, False, -1, -0.1, [], math.nan]
)
def test_texts_that_are_no_moments(text: Any):
    with pytest.raises(ValueError, match="a share of the run"):
        parse_moment(text)


@pytest.mark.parametrize("text", ["101 %", 1.5, math.inf])
def test_shares_above_the_whole(text: Any):
    with pytest.raises(ValueError, match=r"at most 100 %, got .*; steps are whole numbers"):
        parse_moment(text)


@given(st.integers(1, 10**6), SHARES)
def test_a_share_is_the_nearest_step(steps: int, share: float):
    """Within half a step of the share; all of the run is its last step's end; a step is itself."""
    assert abs(step_of(share, steps) - share * steps) <= 0.5
    assert step_of(1.0, steps) == steps
    assert step_of(steps + 3, steps) == steps + 3


@pytest.mark.parametrize(
    ("asked", "pattern", "expected"),
    [
        ("srste", "2:4", [(0, 20, "2:4", False)]),
        ("dense", "dense", [(0, 20, "dense", False)]),
        ("asp", "2:4", [(0, 10, "dense", False), (10, 10, "2:4", False)]),
        ("mask_decay", "1:4", [(0, 2, "dense", False), (2, 10, "1:4", True), (12, 8, "1:4", False)]),
        ("maskllm", "2:4", [(0, 10, "dense", False), (10, 10, "2:4", True)]),
        ("sdgf_geometric", "1:4", [(0, 5, "8:32", False), (5, 5, "4:16", False), (10, 5, "2:8", False),
                                   (15, 5, "1:4", False)]),
        ("sdgf_stepwise", "1:8", [(0, 5, "7:8", False), (5, 5, "4:8", False), (10, 5, "2:8", False),
                                  (15, 5, "1:8", False)]),
        ("structure_decay", "1:16", [(0, 2, "dense", False), (2, 2, "15:16", False), (4, 3, "4:16", False),
                                     (7, 2, "2:16", False), (9, 11, "1:16", False)]),
        ("oneshot_magnitude", "2:4", [(0, 20, "dense", False), (20, 0, "2:4", False)]),
        ({"base": "mask_decay", "start": 12, "soft": {"end": 12}}, "2:4",
         [(0, 12, "dense", False), (12, 8, "2:4", False)]),
        ({"base": "mdgf_linear", "soft": {"end": 300}}, "2:4", [(0, 20, "2:4", True)]),
        ({"base": "mdgf_linear", "soft": {"rate": 0.2}}, "2:4", [(0, 5, "2:4", True), (5, 15, "2:4", False)]),
    ],
)  # fmt: skip
def test_spans_counted_by_hand(asked: Any, pattern: str, expected: list[tuple[int, int, str, bool]]):
    """Of 20 steps: 10 % are 2, 60 % are 12; four frames begin at 20 i / 4, four of 2 to 12 at 2 + floor(10 i / 4);
    a linear decay by 0.2 a step is 0 after 5."""
    assert spans(asked, pattern) == expected


def test_adapters_cut_the_last_span():
    """SLoPe: 99 % of 300 steps is step 297, from where they train to the end; never before the masks."""
    found = [(s.first_step, s.steps, s.adapters) for s in line("slope", steps=300).spans]
    assert found == [(0, 297, False), (297, 3, True)]
    late = line({"base": "slope", "start": 0.5, "adapters": {"start": 0.1}})
    assert [(s.first_step, s.steps, s.adapters) for s in late.spans] == [(0, 10, False), (10, 10, True)]
    never = line({"base": "slope", "start": 20, "adapters": {"start": 30}})
    assert [(s.first_step, s.steps) for s in never.spans] == [(0, 20), (20, 0)]


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    """A recipe of the library with its start and the end of what it does moved about."""
    recipe = draw(st.sampled_from([r for r in TRAINED if r.prunes]))
    fields: dict[str, Any] = {"start": draw(MOMENTS)}
    if recipe.soft is not None:
        fields["soft"] = {"end": draw(MOMENTS)}
        if recipe.soft.kind == "decay":
            fields["soft"] |= {"shape": draw(st.sampled_from(["linear", "cosine", "exponential"]))}
            fields["soft"] |= {"every": draw(st.integers(1, 7)), "floor": draw(st.sampled_from([0.5, 0.01, 1e-12]))}
            fields["soft"] |= {"rate": draw(st.sampled_from([None, 0.01, 0.25, 3.0]))}
    if recipe.structure is not None:
        fields["structure"] = {"end": draw(MOMENTS), "kind": draw(st.sampled_from(STRUCTURES))}
    if recipe.adapters is not None:
        fields["adapters"] = {"start": draw(MOMENTS)}
    if recipe.growth is not None:
        fields["growth"] = {"end": draw(MOMENTS), "every": draw(st.integers(1, 9))}
    try:
        return recipe.with_(**fields)
    except UnsupportedError:
        assume(False)
        raise


STRUCTURES = ["stepwise", "geometric", "densify", "halving"]
NM = st.sampled_from(["1:2", "2:4", "1:4", "2:8", "1:8", "3:8", "1:16", "5:16"])


def course(recipe: Recipe, pattern: str, steps: int) -> Timeline:
    """The timeline; recipes that end before they start, or start after the end, are drawn again."""
    try:
        return Timeline.of(recipe, Pattern.parse(pattern), steps)
    except UnsupportedError as error:
        assume(not any(why in str(error) for why in ("before the start", "nothing is ever pruned", "never change")))
        raise


@settings(max_examples=300, deadline=None)
@given(recipes(), NM, st.integers(1, 50))
def test_spans_cover_the_run(recipe: Recipe, pattern: str, steps: int):
    """One after another from step 0 to the last, none empty but the one that follows the last step; each step is in
    its span; nothing is pruned before the start, and all is after it."""
    found = course(recipe, pattern, steps)
    at = 0
    for i, span in enumerate(found.spans):
        assert span.first_step == at
        assert span.steps > 0 or (i == len(found.spans) - 1 and at == steps)
        at += span.steps
        for step in range(span.first_step, at):
            assert found.at(step) is span
            assert span.prunes == (step >= found.start)
    assert at == steps
    assert found.at(steps) is found.spans[-1]
    assert found.spans[-1].pattern == Pattern.parse(pattern) or recipe.structure is not None
    adapted = [span.adapters for span in found.spans if span.steps]
    assert adapted == sorted(adapted)


@settings(max_examples=300, deadline=None)
@given(recipes(), NM, st.integers(1, 50))
def test_beta_never_rises_and_is_zero_exactly_where_products_are_sparse(recipe: Recipe, pattern: str, steps: int):
    """1 before the start, then not rising; for a recipe that fades weights out, and one that drops them at once, 0.0
    itself from the first sparse step on and above 0 before it."""
    found = course(recipe, pattern, steps)
    betas = [found.beta(step) for step in range(steps)]
    assert betas == sorted(betas, reverse=True)
    assert all(beta == 1.0 for beta in betas[: found.start])
    assert all(0.0 <= beta <= 1.0 for beta in betas)
    if recipe.soft is None or recipe.soft.kind == "decay":
        assert [beta == 0.0 for beta in betas] == [found.at(step).is_sparse for step in range(steps)]
    sparse = [step for step in range(steps) if found.at(step).is_sparse]
    assert sparse == list(range(sparse[0], steps)) if sparse else True


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(STRUCTURES), NM, st.integers(1, 60), SHARES, SHARES)
def test_structures_tighten(kind: str, pattern: str, steps: int, start: float, end: float):
    """Stepwise and halving never keep more than before; geometric keeps one share in groups that never grow; densify
    never keeps less. Frames that all have a step last equally long, but for rounding."""
    assume(start <= end)
    n, m = map(int, pattern.split(":"))
    assume(kind in ("stepwise", "halving") or 8 * m <= 128)
    recipe = get_recipe("sdgf_stepwise").with_(start=start, structure={"kind": kind, "end": end})
    found = Timeline.of(recipe, Pattern.parse(pattern), steps)
    pruning = [span for span in found.spans if span.prunes]
    densities = [span.pattern.density for span in pruning]
    if kind == "geometric":
        assert densities == [n / m] * len(pruning)
        assert [s.pattern.m for s in pruning] == sorted((s.pattern.m for s in pruning), reverse=True)
    else:
        assert densities == sorted(densities, reverse=kind != "densify")
    assert pruning[-1].pattern == Pattern.parse(pattern)
    frames = [span.steps for span in pruning[:-1]]
    if step_of(end, steps) - found.start >= 8:
        assert max(frames, default=0) - min(frames, default=0) <= 1


@settings(max_examples=100, deadline=None)
@given(SHARES, SHARES, SHARES, st.integers(2, 60), st.floats(0.1, 0.95))
def test_target_of_pdp(start: float, ramp: float, end: float, steps: int, sparsity: float):
    """It does not fall, is above 0 from the first soft step on, and is the final one from the end of the ramp on."""
    assume(start <= end)
    found = Timeline.of(get_recipe("pdp").with_(start=start, soft={"ramp": ramp, "end": end}), Pattern.nm(1, 4), steps)
    targets = [found.target(step, sparsity) for step in range(found.start, steps)]
    assert targets == sorted(targets)
    assert all(0 < target <= sparsity for target in targets)
    assert all(t == sparsity for t in targets[max(0, step_of(ramp, steps) - found.start - 1) :])


def test_target_of_pdp_by_hand():
    """From step 2, a ramp to step 6: 1/4, 2/4, 3/4, 4/4 of the final 0.8."""
    found = line({"base": "pdp", "start": 2, "soft": {"ramp": 6, "end": 10}})
    assert [found.target(step, 0.8) for step in range(2, 8)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8, 0.8])


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("linear", [1.0, 0.75, 0.5, 0.25, 0.0]),
        ("cosine", [1.0, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2, 0.0]),
        ("exponential", [1.0, 0.1, 0.01, 0.001, 0.0]),
    ],
)
def test_beta_by_hand(shape: str, expected: list[float]):
    """From step 4 to 8, floor 1e-4: the four steps and the first after them."""
    found = line({"base": "mdgf_linear", "start": 4, "soft": {"shape": shape, "end": 8, "floor": 1e-4}})
    betas = [found.beta(step) for step in range(4, 9)]
    assert betas == pytest.approx(expected, abs=1e-12)
    assert betas[-1] == 0.0
    assert found.at(8).is_sparse
    assert not found.at(7).is_sparse


def test_beta_in_jumps():
    """Every 3 steps from step 0 to 7 there are ceil(7 / 3) = 3 changes, the last of which the end makes."""
    found = line({"base": "mdgf_linear", "soft": {"end": 7, "every": 3}})
    assert [found.beta(step) for step in range(8)] == pytest.approx([1, 1, 1, 2 / 3, 2 / 3, 2 / 3, 1 / 3, 0], abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(recipes(), NM)
def test_the_final_step_is_the_last_of_a_run(recipe: Recipe, pattern: str):
    """What one step of a whole run is taken for has the pattern, softness and adapters of the last step of a long
    run, where all ends are shares of it."""
    parts = (recipe.soft, recipe.structure, recipe.growth)
    moments = [recipe.start, *(part.end for part in parts if part)]
    moments += [recipe.adapters.start] if recipe.adapters else []
    assume(all(isinstance(moment, float) for moment in moments))
    assume(not (recipe.soft is not None and recipe.soft.kind == "decay" and recipe.soft.rate))
    assume(recipe.structure is None or recipe.start < 1.0)
    run, final = course(recipe, pattern, 1000), Timeline.final(recipe, Pattern.parse(pattern))
    last = run.at(999)
    assert final.spans == (Span(0, 1, last.pattern, last.soft, last.adapters),)


def test_the_first_step_is_not_the_end():
    """1 is a step and 1.0 the whole run: masks from step 1, or weights that fade until step 1, are hard in the end."""
    two_four = Pattern.nm(2, 4)
    for asked in ({"base": "asp", "start": 1}, {"base": "mdgf_linear", "soft": {"end": 1}}):
        assert Timeline.final(get_recipe(asked), two_four).spans == (Span(0, 1, two_four),)
        assert not get_recipe(asked).trains_dense
    assert Timeline.final(get_recipe("oneshot_wanda"), two_four).spans == (Span(0, 1, Pattern()),)
    assert Timeline.final(get_recipe("maskllm"), two_four).spans == (Span(0, 1, two_four, soft=True),)
    assert get_recipe("oneshot_wanda").trains_dense
    assert get_recipe("maskllm").trains_dense


@pytest.mark.parametrize("part", [{"base": "mask_decay", "soft": {"end": "50 %"}}, {"base": "pdp", "soft": {"end": 10}},
                                  {"base": "sdgf_stepwise", "structure": {"end": 10}},
                                  {"base": "srigl", "growth": {"end": "50 %"}}])  # fmt: skip
def test_an_end_before_the_start_is_refused(part: dict[str, Any]):
    """A step against a share is seen when the length of the run is known: 50 % or step 10 of 20 before step 15."""
    late = part | {"start": 15 if "%" in str(part) else "75 %"}
    pattern = "unstructured:0.2" if part["base"] == "srigl" else "2:4"
    with pytest.raises(UnsupportedError, match=r"\.end: is step 10 of 20, before the start at step 15"):
        line(late, pattern)


@pytest.mark.parametrize(
    ("asked", "pattern", "message"),
    [
        ({"base": "asp", "start": 21}, "2:4", "'asp': start: is step 21 of 20: nothing is ever pruned"),
        ({"base": "step", "start": "auto"}, "2:4", r"starts when a run decides \(start: auto\); give start="),
        ("sdgf_geometric", "2:32", "geometric structure towards 2:32: not a pattern: 16:256"),
        ("sdgf_stepwise", "unstructured:0.2", "stepwise structure towards unstructured:0.2"),
    ],
)
def test_mistakes(asked: Any, pattern: str, message: str):
    with pytest.raises((UnsupportedError, PatternError), match=message):
        line(asked, pattern)
