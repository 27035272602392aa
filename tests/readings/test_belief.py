"""The belief-state test: what the whole probe path finds in models whose optimal belief is known."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from tools.belief import OPENING, prefixes, read_belief
from tools.held_out_ridge import r_squared, ridge_cross_fit
from tools.process_models import RECIPES, process_model, process_of, train_process_model
from tools.processes import mess3

from phaselens.errors import InputError
from phaselens.models import untrained_twin


def standardised(x, train):
    shifted = x - x[train].mean(axis=0)
    return shifted / np.sqrt(np.square(shifted[train]).mean())


def test_cross_fitted_ridge_is_that_of_scikit_learn_with_l2_chosen_inside():
    draw = np.random.default_rng(0)
    x = draw.standard_normal((120, 8)).astype(np.float32) + 2
    y = np.stack([x @ draw.standard_normal((8, 3)) + noise * draw.standard_normal((120, 3)) for noise in (1, 20)])
    folds, path = np.arange(120) % 4, (1e3, 1e1, 1e-1)
    found = ridge_cross_fit(x, y, folds, path)
    for d in range(2):
        for fold in range(4):
            outer = folds != fold
            errors = []
            for l2 in path:
                inner = [(outer & (folds != g), outer & (folds == g)) for g in range(4) if g != fold]
                guesses = [
                    (Ridge(alpha=l2).fit(standardised(x, a)[a], y[d][a]).predict(standardised(x, a)[b]), y[d][b])
                    for a, b in inner
                ]
                errors.append(sum(np.square(g - t).sum() for g, t in guesses))
            z = standardised(x, outer)
            wanted = Ridge(alpha=path[int(np.argmin(errors))]).fit(z[outer], y[d][outer]).predict(z[~outer])
            np.testing.assert_allclose(found[d][~outer], wanted, atol=2e-3)
    assert r_squared(found[0], y[0]) > 0.8 > 0.3 > r_squared(found[1], y[1])


def test_r_squared_is_1_for_the_truth_and_0_for_its_mean():
    t = np.random.default_rng(0).standard_normal((2, 50, 3))
    np.testing.assert_allclose(r_squared(t, t), 1)
    np.testing.assert_allclose(r_squared(np.broadcast_to(t.mean(axis=1, keepdims=True), t.shape), t), 0, atol=1e-12)
    assert np.isnan(r_squared(np.ones((4, 1)), np.ones((4, 1))))
    with pytest.raises(InputError, match="targets of shape"):
        ridge_cross_fit(np.ones((4, 2)), np.ones((4, 1)), np.arange(4) % 2, (1.0,))


def test_prefixes_are_distinct_and_openings_are_groups():
    found = prefixes(mess3(), 40, 8, np.random.default_rng(0))
    said = [item.token_ids[: item.span[1]] for item in found.examples.items]
    assert len(set(said)) == len(said) and min(map(len, said)) == OPENING
    assert all(g == " ".join(map(str, s[:OPENING])) for g, s in zip(found.examples.groups, said, strict=True))
    for prefix, belief in list(zip(said, found.beliefs, strict=True))[::20]:
        np.testing.assert_allclose(mess3().beliefs(np.array(prefix))[-1], belief)
    with pytest.raises(InputError, match="longer than their opening"):
        prefixes(mess3(), 4, OPENING, np.random.default_rng(0))


def test_a_model_of_other_tokens_is_refused():
    model = process_model("mess3")
    with pytest.raises(InputError, match="3 tokens, and rrxor 2"):
        read_belief(model, model, process_of("rrxor"))


@pytest.mark.slow
def test_the_belief_of_mess3_is_read_at_the_last_layer_and_not_from_null_or_twin():
    model = process_model("mess3")
    found = read_belief(model, untrained_twin(model, 7), process_of("mess3"))
    assert found.r2[-1] > 0.99 > 0.95 > found.twin.max()
    assert found.over.lo > 0.03 and found.r2[-1] > found.r2[0] + 0.2
    assert np.abs(found.null).max() < 0.05 and found.p < 0.05
    assert found.from_output > 0.999  # its output tells the whole belief


@pytest.mark.slow
def test_the_belief_of_rrxor_is_not_all_at_the_last_layer_though_the_model_predicts_well():
    model = process_model("rrxor")
    found = read_belief(model, untrained_twin(model, 7), process_of("rrxor"))
    assert found.r2[-1] < 0.9 and found.gain.lo > 0.03
    assert found.over.lo > 0.3 and max(found.twin_together, *found.twin) < 0.2
    assert found.from_output < 0.5  # what the output needs is a small part of the belief
    assert np.abs(found.null).max() < 0.05


@pytest.mark.slow
def test_a_process_model_is_made_by_its_recipe(tmp_path):
    recipe = RECIPES["mess3"].__class__("mess3", 2, 16, 60, heads=2, batch=64)
    seen = []
    record = train_process_model(recipe, tmp_path, progress=lambda step, loss: seen.append(loss))
    assert len(seen) == 60 and seen[-1] < seen[0] - 0.1
    assert record["excess_nats"] < 0.2 and (tmp_path / "mess3" / "model.safetensors").is_file()
