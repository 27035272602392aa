"""Scores that states must beat: closed forms, and text that tells beside text that does not."""

import numpy as np
import pytest

from phaselens.dynamics.competitors import calibrated_entropy, latent_amplitude, lens_entropies, text_scores
from phaselens.statistics.detection import auroc


@pytest.fixture
def asked():
    rng = np.random.default_rng(0)
    units = np.repeat(np.arange(100), 3)
    hard = rng.integers(0, 2, 100)[units]
    wrong = (rng.uniform(size=300) < 0.2 + 0.6 * hard).astype(float)
    return rng, units, hard, wrong


@pytest.mark.parametrize("of", ["words", "characters"])
def test_words_that_tell_are_found_and_words_that_do_not_are_not(asked, of):
    rng, units, hard, wrong = asked
    names = [f"q{u} {'capital' if h else 'colour'} {'abcdefg'[u % 7]}" for u, h in zip(units, hard, strict=True)]
    assert auroc(text_scores(names, wrong, units, rng, of=of), wrong) > 0.7
    blind = [f"q{u} {'abcdefg'[u % 7]}" for u in units]
    assert abs(auroc(text_scores(blind, wrong, units, rng, of=of), wrong) - 0.5) < 0.12
    assert np.isnan(text_scores(names[:6], wrong[:6], units[:6], rng, of=of)).all()


def test_a_question_never_tells_about_itself():
    """Every unit has its own word and its own answer: what was seen of it would tell everything."""
    rng, units = np.random.default_rng(1), np.repeat(np.arange(60), 5)
    wrong = rng.integers(0, 2, 60)[units].astype(float)
    assert abs(auroc(text_scores([f"word{u}" for u in units], wrong, units, rng), wrong) - 0.5) < 0.15


def test_calibrated_entropy_is_the_geometric_mean_of_two_ranks():
    reference = np.arange(1.0, 11.0)
    entropy = np.array([[1.0, 3.0, np.nan], [20.0, 30.0, 40.0], [np.nan] * 3])
    found = calibrated_entropy(entropy, np.r_[reference, np.nan])
    assert found[:2] == pytest.approx([np.sqrt(0.2 * 0.3), 1.0]) and np.isnan(found[2])
    assert np.isnan(calibrated_entropy(entropy, np.empty(0))).all()


def test_latent_amplitude_is_that_of_the_states_themselves():
    rng = np.random.default_rng(2)
    h = rng.normal(size=(3, 5, 4, 6)) * 2
    norm = np.linalg.norm(h, axis=3)
    unit = h / norm[..., None]
    step, deep = np.full(h.shape[:3], np.nan), np.full(h.shape[:3], np.nan)
    step[:, 1:] = np.linalg.norm(np.diff(unit, axis=1), axis=3)
    deep[:, :, 1:] = np.linalg.norm(np.diff(unit, axis=2), axis=3)
    time, layer = np.linalg.norm(np.diff(h, axis=1), axis=3), np.linalg.norm(np.diff(h, axis=2), axis=3)
    w = np.exp(layer[:, 1:])
    want = ((w * time[:, :, 1:]).sum(2) / w.sum(2)).mean(1)
    assert latent_amplitude(step, deep, np.log(norm / np.sqrt(6)), 6) == pytest.approx(want)


def test_lens_entropies_find_the_layer_that_tells(asked):
    rng, units, _, wrong = asked
    entropy = rng.normal(2, 0.3, size=(300, 8, 5))
    entropy[:, :, 3] += 0.5 * wrong[:, None]
    assert auroc(lens_entropies(entropy, wrong, units, rng), wrong) > 0.8
    entropy[7] = np.nan
    assert np.isnan(lens_entropies(entropy, wrong, units, rng)[7])
