"""Recipes as files and mappings: what they may say, what is laid over what, and what is refused, with its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmsim.cli.main import main
from nmsim.errors import NmsimError, PatternError, SpecError, UnsupportedError
from nmsim.sparsity.consistency import accepts
from nmsim.sparsity.parts import Choice, Decay, Prune
from nmsim.sparsity.pattern import Pattern
from nmsim.sparsity.recipe import Recipe, all_recipes, get_recipe, recipe_of
from nmsim.specfile import read, read_text
from nmsim.train.config import TrainingFile
from nmsim.workloads.load import load_workload

RECIPES = all_recipes()
TRAINED = [recipe for recipe in RECIPES if recipe.trains]


def test_every_file_is_called_what_it_says():
    """The names are those of the files, without a second one; a recipe that trains without masks is `dense` alone."""
    names = [recipe.name for recipe in RECIPES]
    assert names == sorted(set(names))
    assert {recipe.name for recipe in TRAINED if not recipe.prunes} == {"dense"}
    for name in names:
        assert get_recipe(name).name == name


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_a_recipe_is_the_same_after_a_trip_through_json(recipe: Recipe):
    """What a trace keeps of it makes it again; so does a file."""
    assert Recipe.model_validate(recipe.model_dump(mode="json", exclude_defaults=True), strict=False) == recipe
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


def test_parts_are_laid_over_parts():
    """Only `end` of the decay differs, floor and shape stay; the rest of the recipe too."""
    base, laid = get_recipe("mdgf_exponential"), get_recipe({"base": "mdgf_exponential", "soft": {"end": "30 %"}})
    assert isinstance(base.soft, Decay)
    assert isinstance(laid.soft, Decay)
    assert laid.soft == base.soft.model_copy(update={"end": 0.3})
    assert laid.model_copy(update={"soft": base.soft}) == base
    assert get_recipe("mdgf_exponential") == base


def test_a_part_of_another_kind_takes_its_place():
    """A decay becomes a choice: nothing of the decay is left; and null takes a part away."""
    other = get_recipe({"base": "mdgf_linear", "soft": {"kind": "choice", "end": 40}})
    assert other.soft == Choice(kind="choice", end=40)
    assert get_recipe({"base": "mdgf_linear", "soft": None}).soft is None
    added = get_recipe({"base": "ste", "soft": {"kind": "decay", "end": "50 %"}})
    assert added.soft == Decay(kind="decay", end=0.5)


def test_a_mapping_may_start_from_a_file(tmp_path: Path):
    path = tmp_path / "own.yaml"
    path.write_text("kind: recipe\nname: own\nprunes: [{stage: FF, operand: weight, direction: in}]\nstart: 25 %\n")
    recipe = get_recipe({"base": str(path), "decay": 0.5})
    assert (recipe.name, recipe.start, recipe.decay) == ("own", 0.25, 0.5)
    assert get_recipe(path) == recipe_of(read(path))


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(TRAINED), st.one_of(st.integers(0, 10**6), st.integers(0, 100).map(lambda n: n / 100)))
def test_the_start_may_be_moved(recipe: Recipe, start: float):
    """To any step or share that lies before all ends of its kind; a recipe without masks has nothing to start."""
    ends = [part.end for part in (recipe.soft, recipe.structure, recipe.growth) if part]
    if start and not recipe.prunes:
        with pytest.raises(UnsupportedError, match="no masks that could start"):
            recipe.starting_at(start)
    elif any(type(end) is type(start) and end < start for end in ends):
        with pytest.raises(UnsupportedError, match="lies before the start"):
            recipe.starting_at(start)
    else:
        assert recipe.starting_at(start) == recipe.model_copy(update={"start": start})


def test_stage_shares_by_hand():
    """2:8 of BDWP is a quarter of FF and of BP: 3 / 1.5 = 2; SR-STE's FF only: 3 / 2.25."""
    assert get_recipe("bdwp").stage_shares(0.25) == {"FF": 0.25, "BP": 0.25, "WU": 1.0}
    assert get_recipe("bdwp").speedup_bound(0.25) == 2.0
    assert get_recipe("srste").speedup_bound(0.25) == pytest.approx(4 / 3)
    assert get_recipe("dense").speedup_bound(0.25) == 1.0


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(RECIPES), st.floats(0.01, 1.0))
def test_bounds(recipe: Recipe, density: float):
    """One direction gains below 3/2 whatever the density, two below 3, none 1, and three at most what an inference
    does; nothing gains at density 1."""
    sparse = sum(share < 1.0 for share in recipe.stage_shares(0.5).values())
    assert recipe.speedup_bound(density) <= {0: 1.0, 1: 1.5, 2: 3.0, 3: 1 / density + 1e-12}[sparse]
    assert recipe.speedup_bound(density) >= 1.0
    assert recipe.speedup_bound(1.0) == recipe.inference_bound(1.0) == 1.0
    assert recipe.inference_bound(density) in (1.0, 1 / density)


PRUNED = "kind: recipe\nname: own\nprunes: [{stage: FF, operand: weight, direction: in}]\n"


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ("dekay: 0.1", "4:1", "dekay: unknown field 'dekay'; did you mean decay?"),
        ("decay: -1", "4:8", "decay: must be at least 0, got -1"),
        ("start: 130 %", "4:8", "start: a share of the run is at most 100 %, got 1.3; steps are whole numbers"),
        ("start: soon", "4:8", "expected a step, as 300, or a share of the run, as 30 %, or auto; got 'soon'"),
        ("gradient: sted", "4:11", "gradient: unknown value 'sted'; did you mean ste"),
        ("soft: {kind: decay, end: 0.5, shape: lineer}", "4:38", "unknown value 'lineer'; did you mean linear"),
        ("soft: {kind: decoy, end: 0.5}", "4:14", "soft.kind: unknown value 'decoy'; did you mean decay?"),
        ("soft: {kind: decay}", "4:1", "end: is missing: from here on beta is 0 and the forward product is sparse"),
        ("soft: {kind: decay, end: 0.5, floor: 1}", "4:38", "floor: must be less than 1, got 1"),
        ("growth: {every: 0}", "4:17", "growth.every: must be at least 1, got 0"),
        ("power: 0.5", "4:8", "power: must be at least 1, got 0.5"),
        ("adapters: {rank: 4}", "4:1", "adapters.start: is missing"),
        ("quantize: {format: int9}", "4:20", "unknown value 'int9'; did you mean int8, int4?"),
    ],
)
def test_mistakes_in_a_file(text: str, where: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Each with file, line and column, the path, what is wrong and the nearest name; from Python and on the command
    line."""
    path = tmp_path / "own.yaml"
    path.write_text(PRUNED + text + "\n")
    with pytest.raises(SpecError) as error:
        get_recipe(path)
    assert str(error.value).startswith(f"{path}:{where}: ")
    assert message in str(error.value)
    assert main(["check", str(path)]) == 2
    assert f"{path}:{where}: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("start: 80 %\nsoft: {kind: decay, end: 60 %}", "soft.end: 60 % lies before the start at 80 %"),
        ("start: 80\nstructure: {kind: stepwise, end: 60}", "structure.end: step 60 lies before the start at step 80"),
        ("start: 80 %\ngrowth: {end: 75 %}", "growth.end: 75 % lies before the start at 80 %"),
        ("start: auto", "start: auto waits for Adam's variance to settle and goes with freeze_variance"),
        ("growth: {}\nsoft: {kind: decay, end: 0.5}", "a soft mask goes with neither growth nor structure"),
        ("structure: {kind: halving}\nsoft: {kind: decay, end: 0.5}", "a soft mask goes with neither growth nor"),
        ("gradient: masked\nsoft: {kind: choice, end: 0.5}", "cannot zero the weights it has not chosen"),
    ],
)
def test_parts_that_do_not_go_together(text: str, message: str):
    with pytest.raises(SpecError, match=message):
        recipe_of(read_text(PRUNED + text))


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("start: 80 %\nsoft: {kind: decay, end: 60 %}", "5:26: soft.end: 60 % lies before the start at 80 %"),
        ("start: 80\nstructure: {kind: stepwise, end: 60}", "5:34: structure.end: step 60 lies before"),
        ("start: 90 %\ngrowth: {every: 3}", "5:1: growth.end: 75 % lies before the start at 90 %"),
        ("start: 150 %", "4:8: start: a share of the run is at most 100 %, got 1.5; steps are whole numbers"),
        ("start: auto", "4:8: start: auto waits for"),
        ("rescale: true", "4:10: rescale: is of a pruned gradient, and `prunes` has none"),
        ("soft: {kind: decay, shape: cosine, end: 0.5, rate: 3}", "4:52: soft.rate: a cosine falls"),
        ("trains: false\ngradient: masked", "5:11: gradient: is of training, and this recipe does not train"),
    ],
)
def test_what_does_not_go_together_stands_at_its_field(text: str, where: str, tmp_path: Path):
    """Once, and nothing else beside it."""
    path = tmp_path / "own.yaml"
    path.write_text(PRUNED + text + "\n")
    with pytest.raises(SpecError) as error:
        get_recipe(path)
    assert str(error.value).startswith(f"{path}:{where}")
    assert len(error.value.problems) == 1


@pytest.mark.parametrize(
    ("prune", "where"),
    [
        ("{stage: FF, operand: gradient, direction: out}", "3:31: prunes[0].operand: FF has no gradient"),
        ("{stage: WU, operand: weight, direction: in}", "3:31: prunes[0].operand: WU has no weight"),
        ("{stage: BP, operand: gradient, direction: in}", "3:52: prunes[0].direction: the channels of the gradient"),
        ("{stage: BP, operand: weight, direction: out, within: true}", "3:63: prunes[0].within: BP's weight may lie"),
    ],
)
def test_operands_that_a_product_does_not_have(prune: str, where: str, tmp_path: Path):
    path = tmp_path / "own.yaml"
    path.write_text(f"kind: recipe\nname: own\nprunes: [{prune}]\n")
    with pytest.raises(SpecError) as error:
        get_recipe(path)
    assert str(error.value).startswith(f"{path}:{where}")


UNREAD = {
    "rescale": True, "power": 2.0, "gradient": "masked", "decay": 0.1, "distribution": "erk", "start": 5,
    "forward_mask_in_backward": True, "series": True, "freeze_variance": True,
}  # fmt: skip


@pytest.mark.parametrize("name", UNREAD)
def test_a_field_that_nothing_reads_is_refused(name: str):
    """Without a pruned operand no field of masks says anything; of a gradient alone none of the weight in FF does."""
    with pytest.raises(UnsupportedError, match=f"recipe 'dense': {name}: goes with a pruned operand"):
        get_recipe("dense").with_(**{name: UNREAD[name]})
    if name in ("power", "gradient", "forward_mask_in_backward"):
        with pytest.raises(UnsupportedError, match=f"recipe 'sdgp': {name}: is of the weight in FF"):
            get_recipe("sdgp").with_(**{name: UNREAD[name]})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"soft": {"kind": "decay", "end": 0.5}}, "soft: goes with a pruned operand, and `prunes` is empty"),
        ({"growth": {}}, "growth: goes with a pruned operand"),
        ({"adapters": {"rank": 4, "start": 0}}, "adapters: goes with a pruned operand"),
        ({"permute": True}, "permute: goes with a pruned operand"),
        ({"prunes": [{"stage": "BP", "operand": "weight", "direction": "out"}], "growth": {}}, "is of the weight in"),
        ({"prunes": [{"stage": "FF", "operand": "activation", "direction": "in"}],
          "soft": {"kind": "sigmoid", "end": 9}}, "soft: is of the weight in FF"),
        ({"prunes": [{"stage": "FF", "operand": o, "direction": "in"} for o in ("weight", "activation")]},
         "two operands of one product are pruned"),
    ],
)  # fmt: skip
def test_parts_without_what_they_need(fields: dict[str, Any], message: str):
    with pytest.raises(UnsupportedError, match=message):
        get_recipe({"base": "dense", **fields})


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("srtse", "unknown recipe 'srtse'; did you mean srste"),
        ({"base": "srtse"}, "unknown recipe 'srtse'; did you mean srste"),
        ({"decay": 1}, "a recipe written out names its `base`"),
        ({}, "a recipe written out names its `base`"),
        ({"base": "srste", "dekay": 1}, "recipe 'srste': dekay: unknown field 'dekay'; did you mean decay"),
        ({"base": "mask_decay", "soft": {"ending": 1}}, "soft.ending: unknown field 'ending'; did you mean end"),
        ({"base": "mask_decay", "soft": {"shape": "linar"}}, "soft.shape: unknown value 'linar'; did you mean linear"),
        ({"base": "srste", "decay": "1"}, "decay: expected a number, got '1'"),
        ({"base": "slope", "adapters": {"rank": 0}}, "adapters.rank: must be at least 1, got 0"),
        ({"base": "mdgf_linear", "decay": 0.1}, "decay: pulls at weights that a hard mask of FF drops"),
        ({"base": "asp", "decay": 0.1}, "with the straight-through gradient (ste) alone"),
        ({"base": "sdwp", "decay": 0.1}, "decay: pulls at weights"),
        ({"base": "mdgf_linear", "quantize": {"format": "int4"}}, "quantize: rounds the weight of FF"),
        ({"base": "bdwp", "quantize": {"format": "int4"}}, "which BP has to use too"),
        ({"base": "mask_decay", "start": "80 %"}, "recipe 'mask_decay': soft.end: 60 % lies before the start at 80 %"),
        ({"base": "asp", "start": "soon"}, "a share of the run, as 30 %, or auto; got 'soon'"),
    ],
)  # fmt: skip
def test_mistakes_in_a_mapping(asked: Any, message: str):
    """Named as in a file: the recipe, the path in it, the nearest name."""
    with pytest.raises(NmsimError) as error:
        get_recipe(asked)
    assert message in str(error.value)


KINDS = {"nm": "2:4", "vnm": "16:2:8", "unstructured": "unstructured:0.2", "fan_in": "fan-in:4", "dense": "dense"}
EVERY, GROUPS, DENSITY = {"nm", "vnm", "unstructured", "fan_in"}, {"nm"}, {"unstructured"}
TAKES = {
    "dense": {"dense"}, "rigl": DENSITY, "srigl": DENSITY, "srigl_fixed": DENSITY, "maskllm": GROUPS,
    "maskllm_joint": GROUPS, "sdgf_geometric": GROUPS, "sdgf_stepwise": GROUPS, "structure_decay": GROUPS,
    "transposable": GROUPS, "bimask": GROUPS, "asp_permuted": GROUPS, "oneshot_sparsegpt": {"nm", "unstructured"},
    "pdp": EVERY - {"fan_in"}, "pdp_channels": EVERY - {"fan_in"},
}  # fmt: skip
"""Kinds of patterns by recipe: growth needs a density to share; choices, structures, permutations and transposable
masks are of n:m; SparseGPT has no rule for shared columns and for rows; a fan-in gives PDP no share to prune."""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("recipe", [recipe.name for recipe in TRAINED])
def test_patterns_that_a_recipe_takes(recipe: str, kind: str):
    """Refused by the planner before anything is done where the recipe has no rule for it, naming the recipe."""
    why = accepts(get_recipe(recipe), Pattern.parse(KINDS[kind]))
    if kind in TAKES.get(recipe, EVERY):
        assert why == ""
    else:
        assert f"recipe {recipe!r}" in why
        with pytest.raises(PatternError, match=f"recipe '{recipe}' (takes|needs)"):
            load_workload("resnet18").training(recipe, KINDS[kind])


TRAINING = """\
kind: training
model: {{name: mlp}}
data: {{name: signals}}
recipe: {recipe}
pattern: {pattern}
steps: 100
batch: 4
schedule: {{name: constant, rate: 0.01}}
"""


@pytest.mark.parametrize(
    ("recipe", "pattern", "where", "message"),
    [
        ("srtse", "2:4", "4:9: recipe", "unknown recipe 'srtse'; did you mean srste"),
        ("{base: srste, dekay: 1}", "2:4", "4:30: recipe.dekay", "dekay: unknown field 'dekay'; did you mean decay"),
        ("{base: mask_decay, start: 80 %}", "2:4", "4:1: recipe.soft.end", "60 % lies before the start at 80 %"),
        (
            "{base: mask_decay, soft: {end: 5}}",
            "2:4",
            "4:40: recipe.soft.end",
            "is step 5 of 100, before the start at step 10",
        ),
        (
            "{base: srigl, start: 90}",
            "unstructured:0.2",
            "4:1: recipe.growth.end",
            "is step 75 of 100, before the start",
        ),
        ("{base: asp, start: 200}", "2:4", "4:28: recipe.start", "is step 200 of 100: nothing is ever pruned"),
        ("srigl", "unstructured:0.2", "4:9: recipe.growth.every", "the mask would never change: every 100 steps"),
        ("{base: asp, start: 150 %}", "2:4", "4:28: recipe.start", "a share of the run is at most 100 %, got 1.5"),
        ("srigl", "2:4", "5:10: pattern", "recipe 'srigl' takes a density, as unstructured:0.1, not 2:4"),
        ("maskllm", "unstructured:0.2", "5:10: pattern", "recipe 'maskllm' takes n:m, as 2:4, not unstructured:0.2"),
        ("bdwp", "dense", "5:10: pattern", "recipe 'bdwp' needs a pattern, as 2:4"),
        ("inference", "2:4", "4:9: recipe", "does not train"),
        ("step", "2:4", "1:1: optimizer", "recipe 'step' freezes Adam's variance; 'sgd' has none"),
        ("sdgf_geometric", "2:32", "5:10: pattern", "geometric structure towards 2:32: not a pattern: 16:256"),
        ("srste", "2;4", "5:10: pattern", "not a pattern: '2;4'"),
    ],
)
def test_mistakes_in_a_training_file(
    recipe: str, pattern: str, where: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """`nmsim check` names file, line and column, and exits with 2."""
    path = tmp_path / "run.yaml"
    path.write_text(TRAINING.format(recipe=recipe, pattern=pattern))
    assert main(["check", str(path)]) == 2
    printed = capsys.readouterr().err
    assert f"{path}:{where}: " in printed
    assert message in printed
    assert len(printed.splitlines()) == 1


@pytest.mark.parametrize("decays", ["soft: {kind: decay, end: 50 %}", "structure: {kind: halving}"])
def test_a_file_that_decays_says_its_gradient(decays: str, tmp_path: Path):
    text = f"kind: recipe\nname: fades\nprunes: [{{stage: FF, operand: weight, direction: in}}]\n{decays}\n"
    path = tmp_path / "fades.yaml"
    path.write_text(text)
    with pytest.raises(SpecError, match=r"fades\.yaml:\d+:\d+: gradient: is missing: a recipe that decays says"):
        get_recipe(path)
    path.write_text(f"{text}gradient: ste\n")
    assert get_recipe(path).gradient == "ste"


@pytest.mark.parametrize("recipe", ["srste", "{base: mdgf_linear, soft: {end: 30 %}}", "{base: asp, start: 20}"])
def test_good_training_files(recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "run.yaml"
    path.write_text(TRAINING.format(recipe=recipe, pattern="2:4"))
    assert main(["check", str(path)]) == 0
    assert f"{path}: ok (training, mlp on signals by" in capsys.readouterr().out


@pytest.mark.parametrize("name", [recipe.name for recipe in RECIPES])
def test_every_recipe_of_the_library_is_good(name: str, capsys: pytest.CaptureFixture[str]):
    assert main(["check", name]) == 0
    assert f"{name}: ok (recipe {name}, prunes " in capsys.readouterr().out


def test_a_training_file_keeps_a_moment_as_a_start():
    """`start` of the file goes over that of the recipe: 20 % and step 20 of 100 are the same."""
    fields: dict[str, Any] = {
        "kind": "training", "model": {"name": "mlp"}, "data": {"name": "signals"}, "recipe": "asp", "pattern": "2:4",
        "steps": 100, "batch": 4, "schedule": {"name": "constant", "rate": 0.01},
    }  # fmt: skip
    assert TrainingFile.model_validate(fields | {"start": "20 %"}).start == 0.2
    assert TrainingFile.model_validate(fields | {"start": 20}).start == 20


def test_prunes_find_their_stage():
    recipe = get_recipe("slope")
    assert recipe.prune("BP") == Prune(
        stage="BP", operand="weight", direction="out", refresh=100, mask="magnitude", within=True
    )
    assert recipe.prune("WU") is None
