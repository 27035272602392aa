import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from phaselens.errors import InputError
from phaselens.probes import capacity as c


def test_capacity_is_one_for_a_perfect_probe_and_zero_for_the_majority():
    codes = np.array([0, 0, 0, 1, -1])
    assert c.capacity(np.array([1.0, 0.75, 0.5]), codes) == pytest.approx([1.0, 0.0, -1.0])
    assert np.isnan(c.capacity(np.array([1.0]), np.zeros(4, int))).all()
    assert c.selectivity(np.array([0.9]), np.array([[0.5, 0.7]])) == pytest.approx([0.3])


def test_auroc_is_that_of_scikit_learn_with_ties():
    draw = np.random.default_rng(0)
    codes, scores = draw.integers(3, size=80), draw.integers(6, size=(2, 80, 3)).astype(float)
    assert c.auroc(scores[0, :, 0], codes == 1) == pytest.approx(roc_auc_score(codes == 1, scores[0, :, 0]))
    want = [np.mean([roc_auc_score(codes == k, s[:, k]) for k in range(3)]) for s in scores]
    assert c.macro_auroc(scores, codes) == pytest.approx(want)
    assert np.isnan(c.auroc(np.arange(3.0), np.zeros(3, bool)))


def hits_with_peak(at, layers, seed, *, n=400, groups=80):
    draw = np.random.default_rng(seed)
    truth = 0.95 - 0.5 * np.abs(np.arange(layers) / (layers - 1) - at)
    return (draw.random((layers, n)) < truth[:, None]).astype(float), draw.integers(2, size=n), np.arange(n) % groups


def test_the_peak_is_found_with_an_interval_that_holds_it():
    hits, codes, groups = hits_with_peak(0.5, 9, 0)
    curve = c.capacity_curve(hits, codes, groups, np.random.default_rng(1), n_boot=500)
    assert 0.5 in curve.peak_interval and abs(curve.peak_depth - 0.5) <= 0.25
    assert curve.region[4] and not curve.region[0]
    assert all(value in interval for value, interval in zip(curve.capacity, curve.intervals, strict=True))
    alone = c.capacity_curve(hits, codes, np.zeros(400, int), np.random.default_rng(1), n_boot=50)
    assert alone.peak_interval.reason and alone.intervals[0].reason


def test_two_grids_alone_make_no_difference_and_a_real_one_does():
    """Equal true depth on grids of 5 and 7 blocks stays inside the allowance; peaks at .2 and .8 do not."""
    same = [hits_with_peak(0.5, layers, s) for layers, s in ((6, 2), (8, 3))]
    apart = [hits_with_peak(at, layers, s) for at, layers, s in ((0.2, 6, 4), (0.8, 8, 5))]
    found = []
    for pair in (same, apart):
        curves = [c.capacity_curve(*p, np.random.default_rng(i), n_boot=500) for i, p in enumerate(pair)]
        found.append(c.peak_difference(*curves))
    assert found[0].allowance == pytest.approx(1 / 10 + 1 / 14)
    assert not found[0].beyond_grid and found[1].beyond_grid
    assert found[1].p < 0.05 < found[0].p


def test_high_capacity_region():
    assert c.high_capacity_region(np.array([0.1, 0.9, 1.0])).tolist() == [False, True, True]
    assert not c.high_capacity_region(np.array([-0.1, -0.2])).any()


def test_the_maximum_over_layers_pays_for_the_choice():
    draw = np.random.default_rng(0)
    null = draw.normal(0.5, 0.02, size=(12, 400))
    assert c.max_over_layers_p(np.full(12, 0.9), null)[0] == pytest.approx(1 / 401)
    # .54 at one chosen layer is beyond 95 % of that layer's null, and nothing special for the best of twelve.
    lucky = np.full(12, 0.5)
    lucky[3] = 0.535
    assert (null[3] >= 0.535).mean() < 0.06 and c.max_over_layers_p(lucky, null)[0] > 0.2
    with pytest.raises(InputError, match="same layers"):
        c.max_over_layers_p(np.zeros(3), null)
