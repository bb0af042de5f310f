"""Mask decay and structure decay against the reference vectors of google/aqt and of progressive gradient flow."""

from __future__ import annotations

import re

import numpy as np

from nmsim.sparsity.decay import (
    BetaDecay,
    ExponentialDecay,
    LinearDecay,
    aqt_mask_decay,
    decay_gradient,
    soft_weight,
    update_at,
)
from nmsim.sparsity.mask import magnitude_mask
from nmsim.sparsity.pattern import Pattern
from nmsim.sparsity.structure import flat_mask, frames, halved
from tests.golden.entries import Entry, checks

AQT_AXIS = {"R": -1, "C": 0}
"""google/aqt's order of groups, R by default: along the last axis of a kernel, or along the first."""

PGF_AXIS = {"row": -1, "col": 0}
PGF_KINDS = {"sparsify": "stepwise", "fine": "geometric", "densify": "densify"}


def same_mask(found: np.ndarray, expected: np.ndarray, what: object = "") -> None:
    np.testing.assert_array_equal(found, expected != 0, err_msg=str(what))


def check_course(entry: Entry, decay: BetaDecay, counts: np.ndarray, mask: np.ndarray, autodiff: str) -> None:
    """beta, forward weight and the autodiff gradient at each of the counts."""
    betas = [decay.beta(int(u)) for u in counts]
    entry.equals("beta", np.array(betas))
    entry.equals("Wsoft", np.stack([soft_weight(entry["W"], mask, beta) for beta in betas]))
    entry.equals(autodiff, np.stack([decay_gradient(entry["G"], mask, beta, "autodiff") for beta in betas]))


@checks(r"aqt_mask_decay_\d+_\d+")
def aqt_mask_value(entry: Entry) -> None:
    """The vectors count updates, so a step here is an update."""
    params = entry.params
    mask = magnitude_mask(entry["W"], Pattern.nm(params["N"], params["M"]), AQT_AXIS[params.get("order", "R")])
    same_mask(mask, entry["mask"])
    check_course(entry, aqt_mask_decay(params["mask_decay_weight"]), entry["u"], mask, "gradW")


@checks(r"aqt_structure_decay_\w")
def aqt_halving(entry: Entry) -> None:
    kept, m = entry.params["prune_rate"]
    axis = AQT_AXIS[entry.params["order"]]
    for u, n, mask, gradient in zip(*(entry[x] for x in ("u", "N_of_u", "masks", "gradW")), strict=True):
        assert halved(int(u), kept) == n
        found = magnitude_mask(entry["W"], Pattern.nm(int(n), m), axis)
        same_mask(found, mask, f"u={u}")
        found = decay_gradient(entry["G"], found, 0.0, "autodiff")
        np.testing.assert_allclose(found, gradient, rtol=entry.rtol, err_msg=f"u={u}")


@checks("aqt_update_schedule")
def aqt_updates(entry: Entry) -> None:
    """Start -1 means never; the count has the cap of this commit."""
    for start, every, step, *expected in entry["rows"].tolist():
        found = update_at(step, None if start == -1 else start, every, "aqt_head")
        assert [int(x) for x in found] == expected, (start, every, step)


@checks("mdgf_(exp|linear)")
def mdgf(entry: Entry) -> None:
    """The published exponential never becomes 0: no snap."""
    params, w = entry.params, entry["W"]
    linear = entry.name.startswith("mdgf_linear")
    decay = LinearDecay(params["coef"]) if linear else ExponentialDecay(params["coef"], snap=0.0)
    mask = flat_mask(w, params["N"], params["M"])
    same_mask(mask, entry["mask"])
    check_course(entry, decay, entry["steps"], mask, "gradW_masked_variant")
    found = [decay_gradient(entry["G"], mask, decay.beta(int(t)), "ste") for t in entry["steps"]]
    entry.equals("gradW", np.stack(found))


@checks("pgf_masks")
def pgf_masks(entry: Entry) -> None:
    """Groups of a weight [out, in] along in (row) and out (col); a share of the whole layer."""
    tags = [tag for tag in entry.tags("mask") if not tag.startswith("unstr")]
    assert tags
    for tag in tags:
        n, m, direction = re.fullmatch(r"(\d+)_(\d+)_(row|col)", tag).groups()
        w, axis = entry[f"W_{tag}"], PGF_AXIS[direction]
        same_mask(flat_mask(w, int(n), int(m), axis), entry[f"mask_{tag}"], tag)
        if w.shape[axis] % int(m) == 0:
            same_mask(magnitude_mask(w, f"{n}:{m}", axis), entry[f"mask_{tag}"], tag)
    for tag in (tag for tag in entry.tags("mask") if tag.startswith("unstr")):
        w = entry["W_unstr"]
        kept = int((1.0 - float(f"0.{tag.removeprefix('unstr')}")) * w.size)
        same_mask(magnitude_mask(w, Pattern.unstructured(kept / w.size)), entry[f"mask_{tag}"], tag)


@checks("sdgf_schedule")
def sdgf_frames(entry: Entry) -> None:
    """Where halving m leads to n, our frames are the published ones."""
    kinds = {int(key): PGF_KINDS[text.split()[0]] for key, text in entry.params["types"].items()}
    for (kind, *case), rows in zip(entry["case"].tolist(), entry["schedule"].tolist(), strict=True):
        expected = [tuple(row) for row in rows if row[0] >= 0]
        assert frames(kinds[kind], *case, rule="pgf") == expected, case
        n, m, *_ = case
        if m > 2 * n and (m // n).bit_count() == 1 and m % n == 0:
            assert frames(kinds[kind], *case) == expected, case


@checks(r"sdgf_walk_\w+")
def sdgf_walk(entry: Entry) -> None:
    p, w = entry.params, entry["W"]
    phases = p["total_epochs"], p["dense_epochs"], p["fine_tune_epochs"]
    course = frames(PGF_KINDS[p["type"]], p["N"], p["M"], *phases, rule="pgf")
    assert len(entry["nm"]) == p["total_epochs"]
    for epoch, (expected, mask) in enumerate(zip(entry["nm"].tolist(), entry["masks"], strict=True)):
        n, m = next(((n, m) for first, n, m in reversed(course) if epoch >= first), (0, 0))
        assert [n, m] == expected, epoch
        found = flat_mask(w, n, m) if m else np.ones(w.shape, bool)
        same_mask(found, mask, f"epoch {epoch}")
