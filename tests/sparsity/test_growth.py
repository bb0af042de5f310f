"""RigL and SRigL against their definition, one Python number at a time, and cases counted by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmsim.errors import PatternError, ShapeError
from nmsim.sparsity.growth import (
    carry_over,
    constant_fan_in_mask,
    drop_fraction,
    initial_weight,
    rigl_update,
    srigl_update,
)

W = np.array([[4, -3, 0, 0], [0, 5, -6, 0], [0.1, 0, 0, 0.2]])
G = np.array([[0, 0, -9, 1], [2, 0, 0, 8], [0, 0.5, -0.4, 0]])


def largest(scores, places, count):
    """The `count` of the places (row, column) of largest score, the lower place first between equals."""
    return set(sorted(places, key=lambda p: (-abs(float(scores[p])), p))[:count])


def as_mask(places, shape):
    mask = np.zeros(shape, bool)
    for place in places:
        mask[place] = True
    return mask


def rigl_oracle(w, mask, g, fraction):
    on = [p for p in np.ndindex(w.shape) if mask[p]]
    dropped = int(len(on) * fraction)
    kept = largest(w, on, len(on) - dropped)
    return as_mask(kept | largest(g, set(np.ndindex(w.shape)) - kept, dropped), w.shape)


def srigl_oracle(w, mask, g, fraction, budget, gamma, ablate, base):
    """The steps as the docstring numbers them; None where the budget leaves a neuron without a weight."""
    out, inputs = w.shape
    everywhere = list(np.ndindex(w.shape))
    on = [p for p in everywhere if mask[p]]
    nonzero = [p for p in on if w[p] != 0]
    n_keep = min(len(on) - int(len(on) * fraction), len(nonzero))
    salient = largest(w, nonzero, n_keep) | largest(g, everywhere, len(on) - n_keep)
    counts = [sum(row == j for row, _ in salient) for j in range(out)]
    wanted = gamma if gamma >= 1 else max(1, int(gamma * (budget // out if base == "sparse" else inputs)))
    if budget // inputs < out:
        wanted = min(wanted, sorted(counts, reverse=True)[budget // inputs])
    gone = {j for j in range(out) if ablate and budget // inputs < out and counts[j] < wanted}
    fan_in = budget // (out - len(gone))
    if fan_in == 0:
        return None
    kept = largest(w, [p for p in nonzero if p[0] not in gone], n_keep)
    final = set()
    for j in set(range(out)) - gone:
        row = largest(w, [p for p in kept if p[0] == j], fan_in)
        final |= row | largest(g, [(j, i) for i in range(inputs) if (j, i) not in row], fan_in - len(row))
    return as_mask(final, w.shape), np.array([j in gone for j in range(out)])


@st.composite
def layers(draw):
    """A small layer whose values are whole numbers, many of them equal or 0, and its mask."""
    shape = draw(st.integers(1, 7)), draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spread = draw(st.sampled_from([1, 3, 1000]))
    dtype = draw(st.sampled_from([np.float16, np.float32, np.float64]))
    w, g = rng.integers(-spread, spread + 1, (2, *shape)).astype(dtype)
    return w, rng.random(shape) < draw(st.floats(0, 1)), g


@given(layers(), st.floats(0, 1))
def test_rigl_is_its_definition(layer, fraction):
    w, mask, g = layer
    np.testing.assert_array_equal(rigl_update(w, mask, g, fraction), rigl_oracle(w, mask, g, fraction))


@settings(max_examples=300)
@given(layers(), st.data())
def test_srigl_is_its_definition(layer, data):
    w, mask, g = layer
    fraction, budget = data.draw(st.floats(0, 1)), data.draw(st.integers(1, w.size))
    gamma = data.draw(st.one_of(st.floats(0.05, 0.99), st.integers(1, 4)))
    ablate, base = data.draw(st.booleans()), data.draw(st.sampled_from(["sparse", "dense"]))
    expected = srigl_oracle(w, mask, g, fraction, budget, gamma, ablate, base)

    def update():
        return srigl_update(w, mask, g, fraction, budget, gamma=gamma, ablate=ablate, salience_base=base)

    if expected is None:
        with pytest.raises(PatternError, match="without a weight"):
            update()
        return
    found, ablated = update()
    np.testing.assert_array_equal(ablated, expected[1])
    np.testing.assert_array_equal(found, expected[0])
    assert (found.sum(axis=1) == np.where(ablated, 0, budget // (~ablated).sum())).all()


@pytest.mark.parametrize("gradients", ["tied", "distinct", "misleading"])
def test_a_layer_large_enough_to_be_sampled(gradients):
    """The definition by stable sorts of the whole layer; `misleading` has its largest gradients in the sample only."""
    rng = np.random.default_rng(5)
    mask = constant_fan_in_mask(64, 500, 25, rng)
    w = np.where(mask, rng.integers(1, 30, mask.shape), 0).astype(np.float32)
    place = np.arange(mask.size)
    g = {
        "tied": rng.integers(0, 3, mask.size),
        "distinct": rng.permutation(mask.size),
        "misleading": np.where(place % 61 == 0, mask.size + place, place),
    }[gradients].reshape(mask.shape).astype(np.float32)  # fmt: skip
    on = np.flatnonzero(mask)
    kept = np.zeros(mask.size, bool)
    kept[on[np.argsort(-np.abs(w.ravel()[on]), kind="stable")[: on.size - int(on.size * 0.2)]]] = True
    expected = kept.copy()
    expected[np.argsort(-np.where(kept, -1, g.ravel()), kind="stable")[: int(on.size * 0.2)]] = True
    np.testing.assert_array_equal(rigl_update(w, mask, g, 0.2), expected.reshape(mask.shape))
    found, _ = srigl_update(w, mask, g, 0.2, on.size, ablate=False)
    rows = kept.reshape(mask.shape)
    for j in range(len(mask)):
        row = np.flatnonzero(rows[j])
        row = row[np.argsort(-w[j, row], kind="stable")[:25]]
        others = np.setdiff1d(np.arange(500), row)
        grown = others[np.argsort(-g[j, others], kind="stable")[: 25 - row.size]]
        np.testing.assert_array_equal(np.flatnonzero(found[j]), np.sort(np.append(row, grown)))


def test_rigl_replaces_the_smallest_weights_by_the_largest_gradients():
    """Of 6 active weights a third, 0.1 and 0.2, is dropped; of the others 9 and 8 are the largest gradients."""
    expected = [[1, 1, 1, 0], [0, 1, 1, 1], [0, 0, 0, 0]]
    np.testing.assert_array_equal(rigl_update(W, W != 0, G, 1 / 3), np.array(expected, bool))


def test_srigl_ablates_the_neuron_without_salient_weights_and_shares_its_budget():
    """Salient are 4, 3, 5, 6 of the weights and 9, 8 of the gradients: 3, 3 and 0 by neuron, below max(1, 0.6).

    A budget of 6 gives the two others 3 weights each.
    """
    mask, ablated = srigl_update(W, W != 0, G, 1 / 3, 6)
    np.testing.assert_array_equal(ablated, [False, False, True])
    np.testing.assert_array_equal(mask, np.array([[1, 1, 1, 0], [0, 1, 1, 1], [0, 0, 0, 0]], bool))


def test_srigl_without_ablation_grows_every_neuron_to_the_fan_in():
    """2 weights each: the first two keep theirs, the third loses both and grows where its gradient is 0.5 and 0.4."""
    mask, ablated = srigl_update(W, W != 0, G, 1 / 3, 6, ablate=False)
    assert not ablated.any()
    np.testing.assert_array_equal(mask, np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0]], bool))


def test_a_neuron_with_more_weights_than_the_fan_in_keeps_the_largest():
    """A budget of 3 leaves one each: 4 of 4, 3 and 6 of 5, 6 stay, though 5 is larger than 4."""
    mask, _ = srigl_update(W, W != 0, G, 1 / 3, 3, ablate=False)
    np.testing.assert_array_equal(mask, np.array([[1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0]], bool))


def test_the_threshold_falls_until_the_budget_fits():
    """8 weights need 3 neurons of 4; all would fall below 4 salient weights, but the third-most, 2, stays."""
    w = np.array([[3, 3, 3, 0], [3, 3, 0, 0], [3, 3, 0, 0], [3, 0, 0, 0]], float)
    _, ablated = srigl_update(w, w != 0, np.zeros_like(w), 0, 8, gamma=4)
    np.testing.assert_array_equal(ablated, [False, False, False, True])


def test_large_gradients_bring_an_ablated_neuron_back():
    mask, ablated = srigl_update(W[:2], np.array([[1, 1, 0, 0], [0] * 4]), G[:2], 0.5, 4)
    assert not ablated.any()
    np.testing.assert_array_equal(mask, np.array([[1, 0, 1, 0], [1, 0, 0, 1]], bool))


def test_values_that_stay_active_are_carried_over_and_grown_ones_start_at_0():
    before, after = np.array([[1, 1, 0, 0]]), np.array([[1, 0, 1, 0]])
    np.testing.assert_array_equal(carry_over(np.full((1, 4), 7.0), before, after), [[7, 0, 0, 0]])


def test_the_drop_fraction_falls_as_a_cosine():
    assert drop_fraction(0, 100) == pytest.approx(0.3)
    assert drop_fraction(50, 100) == pytest.approx(0.15)
    assert drop_fraction(75, 100, alpha=1) == pytest.approx((1 - 2**-0.5) / 2)
    assert drop_fraction(100, 100) == drop_fraction(1000, 100) == 0


def test_an_initial_layer_has_constant_fan_in_and_the_deviation_of_its_fan_in():
    """The standard error of the deviation of 500 x 40 normal numbers is 1 / sqrt(2 * 20000) = 0.5 %; 5 of them."""
    rng = np.random.default_rng(0)
    mask = constant_fan_in_mask(500, 200, 40, rng)
    assert (mask.sum(axis=1) == 40).all()
    assert mask.any(axis=0).all()
    mask[7] = False
    weight = initial_weight(mask, rng)
    assert weight.dtype == np.float32
    np.testing.assert_array_equal(weight != 0, mask)
    assert weight[mask].std() == pytest.approx((2 / 40) ** 0.5, rel=0.025)


@pytest.mark.parametrize("update", [rigl_update, lambda *layer: srigl_update(*layer, 6)])
def test_layers_that_cannot_be_updated_are_refused(update):
    mask = W != 0
    with pytest.raises(ShapeError, match="one shape"):
        update(W, mask[:2], G, 0.3)
    with pytest.raises(ShapeError, match="one shape"):
        update(W[0], mask[0], G[0], 0.3)
    with pytest.raises(PatternError, match="1 of 12 gradients are NaN"):
        update(W, mask, np.where(G == 8, np.nan, G), 0.3)
    with pytest.raises(PatternError, match="not int64"):
        update(W.astype(np.int64), mask, G, 0.3)
    for fraction in (-0.1, 1.1, np.nan):
        with pytest.raises(PatternError, match="from 0 to 1"):
            update(W, mask, G, fraction)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 0}, "no budget of 0"),
        ({"budget": 13}, "no budget of 13"),
        ({"budget": 2, "ablate": False}, "leaves 3 active neurons without"),
        ({"budget": 6, "gamma": 0}, "above 0"),
        ({"budget": 6, "gamma": np.nan}, "above 0"),
        ({"budget": 6, "salience_base": "dens"}, "did you mean dense"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(PatternError, match=message):
        srigl_update(W, W != 0, G, 1 / 3, **options)


def test_schedules_and_masks_that_cannot_be_are_refused():
    for step, end, alpha in ((-1, 10, 0.3), (1, 0, 0.3), (1, 10, 1.5)):
        with pytest.raises(PatternError, match="no drop fraction"):
            drop_fraction(step, end, alpha)
    rng = np.random.default_rng(0)
    for fan_in in (0, 5):
        with pytest.raises(PatternError, match="no fan-in"):
            constant_fan_in_mask(3, 4, fan_in, rng)
    with pytest.raises(ShapeError, match="at least one neuron"):
        constant_fan_in_mask(0, 4, 1, rng)
    with pytest.raises(ShapeError, match="one shape"):
        carry_over(W, W != 0, W[:2] != 0)
