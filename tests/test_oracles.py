"""What is by hand, and what well-kept libraries of the field say: lifelines, scikit-bio, concept-erasure."""

import warnings

import numpy as np
import pytest
import torch

from phaselens.probes.erasure import fit_leace
from phaselens.statistics.agreement import mantel
from phaselens.statistics.interactions import family_by_load
from phaselens.statistics.survival import event_rate, life_table, survival

pytestmark = pytest.mark.slow  # each of the three takes seconds to import


def oracle(name):
    """A module of the extra `dev`, whatever it warns of as it is imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, reason=f"{name} is not installed (extra dev)", exc_type=ImportError)


@pytest.mark.filterwarnings("ignore")
def test_kaplan_meier_and_the_rate_of_events_equal_lifelines():
    lifelines = oracle("lifelines")
    generator = np.random.default_rng(0)
    for _ in range(10):
        duration, event = generator.integers(1, 17, 60), generator.random(60) < 0.6
        table = [x[0] for x in life_table(duration, event, last=16)]
        theirs = lifelines.KaplanMeierFitter().fit(duration, event).survival_function_at_times(range(17))
        np.testing.assert_allclose(survival(*table), theirs, atol=1e-12)
        rate = lifelines.ExponentialFitter().fit(duration, event).lambda_
        assert event_rate(*table, 16) == pytest.approx(1 / rate, rel=1e-3)  # theirs is searched for


@pytest.mark.filterwarnings("ignore")
def test_mantel_and_the_pseudo_f_of_families_equal_scikit_bio():
    distance = oracle("skbio.stats.distance")
    generator = np.random.default_rng(1)
    points = generator.standard_normal((9, 3))
    first, second = (np.linalg.norm(x[:, None] - x, axis=-1) for x in (points, points + generator.normal(0, 1, (9, 3))))
    theirs = distance.mantel(first, second, alternative="greater", permutations=4999, seed=2)
    r, p = mantel(first, second, np.random.default_rng(3), n_permutations=4999)
    assert r == pytest.approx(theirs[0], abs=1e-12) and p == pytest.approx(theirs[1], abs=0.02)
    y = generator.standard_normal((8, 4, 5)) + np.where(np.arange(8) < 4, 0.6, 0)[:, None, None] * np.arange(4)[:, None]
    f, p, _ = family_by_load(y, np.array(list("aaaabbbb")), np.random.default_rng(4))
    table = y.mean(axis=2)
    table = table - table.mean(axis=1, keepdims=True)
    apart = distance.DistanceMatrix(np.linalg.norm(table[:, None] - table, axis=-1))
    found = distance.permanova(apart, list("aaaabbbb"), permutations=999, seed=5)
    assert f == pytest.approx(found["test statistic"], rel=1e-9)
    assert p == pytest.approx(found["p-value"], abs=0.03)


@pytest.mark.filterwarnings("ignore")
def test_leace_equals_concept_erasure():
    library = oracle("concept_erasure")
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(300) % 3
    mixing = torch.randn(12, 12, generator=generator, dtype=torch.float64)
    states = torch.randn(300, 12, generator=generator, dtype=torch.float64) @ mixing + labels[:, None] * mixing[0]
    # By default theirs shrinks the covariance towards a sphere and caps its trace: neither is in the theorem.
    how = {"shrinkage": False, "constrain_cov_trace": False, "svd_tol": 1e-9}
    theirs = library.LeaceFitter.fit(states, torch.nn.functional.one_hot(labels).double(), **how).eraser
    torch.testing.assert_close(fit_leace(states, labels.numpy())(states), theirs(states), atol=1e-6, rtol=1e-6)
