"""PDP and MaskLLM against the reference vectors, whose weights are [out, in] with groups along in."""

from __future__ import annotations

import numpy as np

from nmsim.sparsity.candidates import (
    best_mask,
    candidates,
    linear_schedule,
    logit_gradient,
    regularizer,
    soft_choice,
    soft_mask,
    with_prior,
)
from nmsim.sparsity.mask import magnitude_mask
from nmsim.sparsity.pattern import Pattern
from nmsim.sparsity.soft import pdp_gradient, pdp_group_threshold, pdp_mask, pdp_ratio, pdp_threshold
from tests.golden.entries import Entry, checks


def hard_choice(choice):
    """One-hot of the largest entry of each choice."""
    return np.eye(choice.shape[-1])[np.asarray(choice).argmax(axis=-1)]


@checks("pdp_schedule")
def pdp_ratios(entry: Entry) -> None:
    ratios = [pdp_ratio(int(e), entry.params["target"], entry.params["eps"]) for e in entry["epoch"]]
    entry.equals("r", np.array(ratios))


@checks("pdp_unstructured")
def pdp_layer(entry: Entry) -> None:
    """Both gradients: t held constant, and t differentiated."""
    w, g, tau = entry["W"], entry["G"], entry.params["tau"]
    tags = entry.tags("hard")
    assert tags
    for tag in tags:
        ratio = float(tag.replace("p", "."))
        t = pdp_threshold(w, ratio)
        mask = pdp_mask(w, t, tau)
        entry.equals(f"t_{tag}", np.array(t))
        entry.equals(f"m_{tag}", mask)
        entry.equals(f"What_{tag}", mask * w)
        entry.equals(f"grad_{tag}", pdp_gradient(w, mask, tau, g))
        entry.equals(f"grad_tdiff_{tag}", pdp_gradient(w, mask, tau, g, threshold=t))
        np.testing.assert_array_equal(mask > 0.5, entry[f"hard_{tag}"] != 0, err_msg=tag)


@checks("pdp_nm")
def pdp_groups(entry: Entry) -> None:
    tau = entry.params["tau"]
    patterns = entry.patterns("W")
    assert patterns
    for tag, pattern in patterns:
        w, g = entry[f"W_{tag}"], entry[f"G_{tag}"]
        t = pdp_group_threshold(w, pattern, axis=-1)
        mask = pdp_mask(w, t, tau)
        entry.equals(f"t_{tag}", t[:, :: Pattern.parse(pattern).m].ravel())
        entry.equals(f"m_{tag}", mask)
        entry.equals(f"What_{tag}", mask * w)
        entry.equals(f"grad_{tag}", pdp_gradient(w, mask, tau, g))
        np.testing.assert_array_equal(mask > 0.5, magnitude_mask(w, pattern, axis=-1), err_msg=tag)


@checks(r"maskllm_\d+_\d+")
def maskllm(entry: Entry) -> None:
    p, shape = entry.params, entry["W"].shape
    pattern = Pattern.nm(p["N"], p["M"])
    np.testing.assert_array_equal(candidates(pattern), entry["options"] != 0)
    schedules = {"tau": p["temperature"], "kappa": p["scale"]}
    for name, (first, last) in schedules.items():
        entry.equals(name, np.array([linear_schedule(first, last, int(i), p["train_iters"]) for i in entry["iters"]]))
    moments = list(zip(entry["kappa"], entry["tau"], strict=True))
    soft = [soft_choice(entry["gate"], g, *moment) for g, moment in zip(entry["gumbel"], moments, strict=True)]
    masks = np.stack([soft_mask(y, pattern, shape) for y in soft])
    gradients = [logit_gradient(y, entry["G"], pattern, *moment) for y, moment in zip(soft, moments, strict=True)]
    entry.equals("soft", np.stack(soft))
    entry.equals("mask", masks)
    entry.equals("grad_gate", np.stack(gradients))
    np.testing.assert_array_equal(best_mask(entry["gate"], pattern, shape), entry["mask_eval"] != 0)
    entry.equals(
        "gate_after_prior", with_prior(entry["gate"], entry["prior_mask"], pattern, strength=p["prior_strength"])
    )
    np.testing.assert_array_equal(magnitude_mask(entry["W"], pattern), entry["prior_mask"] != 0)
    check_hard(entry, pattern, soft, gradients)
    check_regularizer(entry, masks)


def check_hard(entry: Entry, pattern: Pattern, soft: list[np.ndarray], gradients: list[np.ndarray]) -> None:
    """Binary forward mask, soft gradient; the vector is of one iteration, which its gradient tells."""
    distance = [np.abs(g - entry["grad_gate_hard_st"]).max() for g in gradients]
    i = int(np.argmin(distance))
    entry.equals("grad_gate_hard_st", gradients[i])
    entry.equals("mask_hard_st", soft_mask(hard_choice(soft[i]), pattern, entry["W"].shape))


def check_regularizer(entry: Entry, masks: np.ndarray) -> None:
    """The vector is of one iteration, which its coefficient tells."""
    p = entry.params
    coefficients = [linear_schedule(p["weight_reg"], 0.0, int(i), p["train_iters"]) for i in entry["iters"]]
    i = int(np.argmin(np.abs(np.array(coefficients) - entry["reg_coeff"])))
    entry.equals("reg_value", np.array(regularizer(entry["W"], masks[i])[0]))
    np.testing.assert_allclose(coefficients[i], entry["reg_coeff"], rtol=entry.rtol)
