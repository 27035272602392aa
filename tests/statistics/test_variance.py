"""Variance components: published data, REML, exact sums, and intervals that cover."""

import numpy as np
import pytest
from coverage import coverage

from phaselens.errors import InputError, UnknownNameError
from phaselens.statistics.resampling import bootstrap_weights
from phaselens.statistics.variance import (
    TERMS,
    Design,
    complete_prompts,
    components,
    mean_squares,
    sums_of_squares,
    three_way_shares,
)
from phaselens.statistics.variance_bootstrap import prompt_weights, resampled_mean_squares, share_draws, share_interval

# Davies and Goldsmith 1972, "Statistical Methods in Research and Production": yield of dyestuff, 6 batches x 5
DYESTUFF = np.array(
    [
        [1545, 1440, 1440, 1520, 1580],
        [1540, 1555, 1490, 1560, 1495],
        [1595, 1550, 1605, 1510, 1560],
        [1445, 1440, 1595, 1465, 1545],
        [1595, 1630, 1515, 1635, 1625],
        [1520, 1455, 1450, 1480, 1445],
    ],
    float,
)
# the same book: strength of paste, 10 batches x 3 casks x 2 tests
PASTES = """62.8 62.6 60.1 62.3 62.7 63.1 60.0 61.4 57.5 56.9 61.1 58.9 58.7 57.5 63.9 63.1 65.4 63.7 57.1 56.4
56.9 58.6 64.7 64.5 55.1 55.1 54.7 54.2 58.8 57.5 63.4 64.9 59.3 58.1 60.5 60.0 62.5 62.6 61.0 58.7 56.9 57.7
59.2 59.4 65.2 66.0 64.8 64.1 54.8 54.8 64.0 64.0 57.7 56.8 58.3 59.3 59.2 59.2 58.9 56.6"""
SD = (0.6, 0.6, 0.3, 0.6, 0.3, 1.0)


def drawn(g, shape=(5, 4, 6, 3), sd=SD):
    m, c, p, r = shape
    sizes = [(m, 1, 1, 1), (1, c, 1, 1), (m, c, 1, 1), (1, c, p, 1), (m, c, p, 1), (m, c, p, r)]
    return sum(s * g.standard_normal(size) for s, size in zip(sd, sizes, strict=True))


def test_dyestuff_has_the_published_components():
    # 1764.05 and 2451.25: Bates, "lme4: Mixed-effects modeling with R", chapter 1 (REML)
    found = components(DYESTUFF[:, None, None, :])
    assert found.values[[0, 5]] == pytest.approx([1764.05, 2451.25]) and np.isnan(found.values[1:5]).all()
    assert all(found.reason[1:5]) and found.reason[0] == found.reason[5] == ""


def test_pastes_has_the_published_components():
    # batch 1.657, cask in batch 8.434, residual 0.678: the same text, chapter 2; mean squares 27.489 and 17.545
    y = np.array(PASTES.split(), float).reshape(1, 10, 3, 2)
    assert components(y).values[[1, 3, 5]] == pytest.approx([1.657, 8.434, 0.678], abs=5e-4)
    assert mean_squares(y)[[1, 3]] == pytest.approx([27.489, 17.545], abs=5e-4)


@pytest.mark.parametrize("shape", [(5, 4, 6, 3), (4, 3, 2, 1), (2, 1, 5, 2), (3, 4, 1, 2), (1, 3, 2, 2)])
def test_squares_add_to_the_total(shape):
    y = drawn(np.random.default_rng(0), shape) + 100
    squares = sums_of_squares(y)
    assert squares.sum() == pytest.approx(((y - y.mean()) ** 2).sum(), abs=1e-9)
    two_way = sums_of_squares(y[:, :, :1, :1])  # models x categories, nothing else
    assert two_way.sum() == pytest.approx(((y[:, :, 0, 0] - y[:, :, 0, 0].mean()) ** 2).sum(), abs=1e-9)
    assert Design(*shape).df.sum() == y.size - 1


def test_batches_equal_a_loop_and_a_shift_changes_nothing():
    y = drawn(np.random.default_rng(1), (3, 2, 3, 2))
    both = np.stack([y, 2 * y + 7])
    assert components(both).values == pytest.approx(np.stack([components(y).values, 4 * components(y).values]))
    assert components(both).shares[0] == pytest.approx(components(both).shares[1])
    assert components(y).shares.sum() == pytest.approx(1)


def test_components_are_unbiased_and_not_clipped():
    g = np.random.default_rng(2)
    sd = (0.5, 0, 0.5, 0.5, 0, 1.0)
    y = np.stack([drawn(g, (4, 3, 4, 2), sd) for _ in range(1500)])
    values = components(y).values
    assert values.mean(axis=0) == pytest.approx(np.square(sd), abs=0.04)
    assert (values[:, 1] < 0).mean() > 0.3
    these = components(y, population="these").values
    truth = [0.25 * 3 / 4 + 0.25 / 3 * 3 / 4, 0.25 / 4 * 2 / 3, 0.25 * 3 / 4 * 2 / 3, 0.25, 0, 1]
    assert these.mean(axis=0) == pytest.approx(truth, abs=0.03)
    # the variance of one observation of these models and categories, by the prompts and seeds there are
    assert these.sum(axis=1).mean() == pytest.approx(sum(truth), abs=0.03)


def test_agreement_with_reml_on_balanced_data_and_reml_on_unbalanced():
    pytest.importorskip("statsmodels")
    from phaselens.statistics.reml import reml

    g = np.random.default_rng(0)
    several = (drawn(g, (3, 3, 4, 2), (1, 0.9, 0.7, 0.8, 0.6, 0.7)) for _ in range(100))
    y = next(y for y in several if (components(y).values > 0.05).all())
    exact, fitted = components(y), reml(y)
    assert fitted.values == pytest.approx(exact.values, rel=0.02)
    assert exact.estimator == "balanced ANOVA" and "REML" in fitted.estimator
    y[1, 2, 3, 1] = np.nan
    with pytest.raises(InputError, match="reml"):
        components(y)
    assert reml(y).values == pytest.approx(exact.values, rel=0.5)
    assert complete_prompts(y).shape == (3, 3, 3, 2) and np.isfinite(components(complete_prompts(y)).values).all()


def test_three_way_hides_the_prompt_in_the_rest():
    y = drawn(np.random.default_rng(3), (6, 5, 8, 3))
    squares = sums_of_squares(y)
    assert three_way_shares(y, of="squares")[:2] == pytest.approx(squares[:2] / squares.sum())
    assert three_way_shares(y).sum() == pytest.approx(1)
    only = np.arange(3.0)[:, None, None, None] + np.zeros((3, 2, 2, 2))
    assert three_way_shares(only) == pytest.approx([1, 0, 0])
    # prompts alone look like an effect of category to plain squares
    prompts = drawn(np.random.default_rng(4), (6, 5, 4, 3), (0, 0, 0, 1, 0, 0.1))
    assert three_way_shares(prompts, of="squares")[1] > 0.1
    assert components(prompts).shares[3] > 0.95


def test_unknown_names_are_named():
    y = drawn(np.random.default_rng(0), (2, 2, 2, 2))
    with pytest.raises(UnknownNameError, match="these"):
        components(y, population="thes")
    with pytest.raises(UnknownNameError):
        three_way_shares(y, of="square")
    with pytest.raises(UnknownNameError, match="prompt"):
        share_interval(y, {"promp": 1}, np.random.default_rng(0))
    with pytest.raises(InputError, match="every factor"):
        components(np.zeros((2, 2, 2)))


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("models", [False, True])
def test_the_correction_centres_the_resamples_and_without_it_they_are_off(seeds, models):
    g = np.random.default_rng(5)
    y = drawn(g, (5, 4, 4, seeds))
    w = prompt_weights(Design(*y.shape), g, 6000)
    v = bootstrap_weights(5, g, n_boot=6000) if models else None
    exact = mean_squares(y)
    seen = np.isfinite(exact)
    right = resampled_mean_squares(y, w, model_weights=v)
    plain = resampled_mean_squares(y, w, model_weights=v, corrected=False)
    error = right.std(axis=0) / np.sqrt(len(right))
    assert (np.abs(right.mean(axis=0) - exact) < 4 * error + 1e-9)[seen].all()
    cell = 5 if seeds == 1 else 4
    shrink = 3 / 4 * (4 / 5 if models else 1)
    assert plain[:, cell].mean() / exact[cell] == pytest.approx(shrink, abs=0.02)


def test_resampled_mean_squares_equal_those_of_the_repeated_prompts():
    y = drawn(np.random.default_rng(6), (3, 2, 4, 2))
    w = prompt_weights(Design(*y.shape), np.random.default_rng(7), 5)
    found = resampled_mean_squares(y, w, corrected=False)
    for counts, row in zip(w, found, strict=True):
        again = np.stack([y[:, c, np.repeat(np.arange(4), counts[c])] for c in range(2)], axis=1)
        assert row == pytest.approx(mean_squares(again))


def test_intervals_say_why_they_are_undefined():
    g = np.random.default_rng(0)
    one = share_interval(drawn(g, (3, 2, 1, 2)), {"model": 1}, g, n_boot=20)
    assert one.interval.reason == "fewer than two prompts per category"
    lost = share_interval(drawn(g, (3, 2, 4, 1)), {"model:prompt": 1}, g, n_boot=20)
    assert "not separable" in lost.interval.reason and np.isnan(lost.value)
    flat = share_interval(np.ones((3, 2, 4, 2)), {"model": 1}, g, n_boot=20)
    assert flat.interval.reason == "no variance"


def test_a_large_category_share_is_found_and_a_large_model_share_is_its_opposite():
    g = np.random.default_rng(8)
    y = drawn(g, (5, 6, 8, 3), (0.2, 1.5, 0.2, 0.3, 0.2, 0.5))
    more = share_interval(y, {"category": 1, "model": -1}, g, n_boot=400)
    assert more.interval.lo > 0.2 and more.value in more.interval and TERMS[1] == "category"
    z = drawn(g, (5, 6, 8, 3), (1.5, 0.1, 0.2, 0.3, 0.2, 0.5))
    assert share_interval(z, {"category": 1, "model": -1}, g, n_boot=400).interval.hi < 0
    sampled = share_draws(y, g, n_boot=300)
    assert sampled.shape == (300, 6) and np.nansum(sampled, axis=1)[:3] == pytest.approx(1)


def _covers(n_studies, prompts):
    """Coverage of the residual's share for these levels: bootstrap-t and percentile."""
    fixed = np.random.default_rng(5)
    shape = (6, 6, prompts, 3)
    effects = drawn(fixed, (6, 6, 1, 1), (*SD[:3], 0, 0, 0))
    of = components(effects[..., [0, 0]] + np.zeros((6, 6, prompts, 3))[..., :2], population="these").values
    truth = np.r_[of[:3], SD[3] ** 2 + SD[4] ** 2 / 6, SD[4] ** 2 * 5 / 6, SD[5] ** 2]
    truth = truth[5] / truth.sum()

    def study(g):
        return effects + drawn(g, shape, (0, 0, 0, *SD[3:]))

    def student(y, g):
        return share_interval(y, {"residual": 1}, g, n_boot=300).interval

    def percentile(y, g):
        from phaselens.statistics.intervals import percentile_interval

        return percentile_interval(share_interval(y, {"residual": 1}, g, n_boot=300).draws, prompts)

    g = np.random.default_rng(11)
    return [coverage(study, how, truth, g, n_studies=n_studies)[0] for how in (student, percentile)]


def test_bootstrap_t_covers_better_than_percentiles_at_four_prompts():
    student, percentile = _covers(60, 4)
    assert student >= 0.88 and percentile < student


@pytest.mark.slow
def test_coverage_of_bootstrap_t_and_of_percentiles():
    student, percentile = _covers(600, 4)
    assert student >= 0.92 and percentile <= 0.90
    assert _covers(400, 8)[0] >= 0.92
