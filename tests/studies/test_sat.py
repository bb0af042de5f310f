"""The SAT study: its switches, its verdicts on tables made up here, and its signatures on one network."""

from __future__ import annotations

import pandas as pd
import pytest

import nmsim
from nmsim.errors import UnsupportedError
from studies.sat.claims import BAND, Claim, claims
from studies.sat.points import ARRAYS, BANDWIDTHS, MACHINE, NETWORKS, Point, all_points, machines
from studies.sat.report import README
from studies.sat.report import verdicts as verdicts_of
from studies.sat.run import ENGINES, PASSES, RESULTS, STAGES, row, with_speedups


def test_points_are_distinct_machines():
    """8 sets of three switches, 4 more, 5 arrays, 7 bandwidths: on five networks each, and every label once."""
    labels = [label for label, _ in machines()]
    assert len(labels) == len(set(labels)) == 8 + 4 + len(ARRAYS) + len(BANDWIDTHS)
    points = list(all_points())
    assert len({(p.study, p.label, p.network) for p in points}) == len(points)
    for _, changes in machines():
        nmsim.load_arch(MACHINE, overrides=changes)


def steps(**changed: float) -> dict[str, float]:
    """Stages of a dense step of 1 s each for FF, BP, WU, and of a sparse one with FF and BP a quarter."""
    dense = dict.fromkeys(STAGES, 0.0) | dict.fromkeys(PASSES, 1.0)
    sparse = {**dense, "FF": 0.25, "BP": 0.25, **changed}
    times = {"dense": dense, "bdwp": sparse}
    found = {f"{recipe}_{stage}": s for recipe, stages in times.items() for stage, s in stages.items()}
    return found | {f"{recipe}_s": sum(stages.values()) for recipe, stages in times.items()}


def made_up(**changed: float) -> pd.DataFrame:
    """A table in which every machine gives 3 / 1.5 = 2 times the speed, but for the changed stages."""
    labels = [label for label, _ in machines()]
    rows = [
        {"study": s, "label": x, "network": n, "dense_macs": 2.0, "bdwp_macs": 1.0, **steps(**changed)}
        for s, x in labels
        for n in NETWORKS
    ]
    return with_speedups(pd.DataFrame(rows))


def verdicts(table: pd.DataFrame) -> list[bool]:
    return [claim.holds for claim in claims(table)]


def test_verdicts_follow_the_table():
    """A mean of 2 lies above the band, inline pruning gained; FF of 1.5 s is the largest stage, the mean 3 / 2.75."""
    assert verdicts(made_up()) == [False, True, True, False, True, True]
    assert verdicts(made_up(FF=1.5)) == [False, False, False, False, True, True]
    assert verdicts(made_up(VECTOR=1.2))[:3] == [False, True, False]
    assert verdicts(made_up(UPDATE=0.2))[:3] == [True, True, True]  # 3 / 1.7 = 1.76


def test_a_curve_that_turns_is_named():
    table = made_up()
    table.loc[(table["label"] == "51.2") & (table["network"] == "ViT"), "speedup"] = 1.5
    bandwidth = list(claims(table))[4]
    assert not bandwidth.holds
    assert bandwidth.seen.endswith("not ViT at 51.2")


def of_one_network(network: str) -> list[Claim]:
    """The verdicts on one network, simulated."""
    return list(claims(with_speedups(pd.DataFrame([
        row(Point(*label, network, NETWORKS[network], changes)) for label, changes in machines()
    ]))))  # fmt: skip


def test_signatures_on_vgg19():
    """What the README says of VGG19 is what is simulated now: all signatures appear."""
    found = of_one_network("VGG19")
    assert all(claim.holds for claim in found), found


def test_the_report_is_that_of_the_saved_table():
    """The verdicts in README.md are those of results.csv; the means of both engines are in the band that was expected,
    and no step takes longer where layers overlap."""
    table = with_speedups(pd.read_csv(RESULTS))
    analytic, event = (table[table["engine"] == engine].reset_index(drop=True) for engine in ENGINES)
    text = README.read_text(encoding="utf-8")
    for line in verdicts_of(analytic, event):
        assert f"| {' | '.join(line)} |" in text
    for engine in (analytic, event):
        base = engine[(engine["study"] == "ablation") & (engine["label"] == "none")]
        assert len(base) == len(NETWORKS)
        assert BAND[0] <= base["speedup"].mean() <= BAND[1]
    assert (event[["study", "label", "network"]] == analytic[["study", "label", "network"]]).all(axis=None)
    assert (event[["dense_s", "bdwp_s"]] < analytic[["dense_s", "bdwp_s"]] * 1.01).all(axis=None)


def test_the_event_engine_on_vgg19_is_that_of_the_saved_table():
    table = pd.read_csv(RESULTS)
    saved = table[(table["engine"] == "event") & (table["label"] == "none") & (table["network"] == "VGG19")].iloc[0]
    now = row(Point("ablation", "none", "VGG19", "vgg19"), engine="event")
    assert (now["dense_s"], now["bdwp_s"]) == pytest.approx((saved["dense_s"], saved["bdwp_s"]), rel=1e-5)


def test_an_engine_that_is_not_there():
    with pytest.raises(UnsupportedError, match="unknown engine 'guess'"):
        row(Point("ablation", "none", "VGG19", "vgg19"), engine="guess")
