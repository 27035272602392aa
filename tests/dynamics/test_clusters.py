"""Clusters: SciPy and scikit-learn as references, planted groups and twins beside panels without any."""

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster
from scipy.spatial.distance import pdist, squareform
from sklearn.metrics import adjusted_rand_score, silhouette_score

from phaselens.dynamics.clusters import (
    average_linkage,
    best_grouping,
    closest_pair_null,
    distances,
    fine_k,
    flat_map,
    groupings,
    leave_one_out,
    node_support,
    one_group,
    robust_pairs,
    silhouettes,
    together,
    topology,
)
from phaselens.errors import InputError
from phaselens.statistics.agreement import grouping_agreement, mantel


def rng(seed=0):
    return np.random.default_rng(seed)


def planted(sizes, gap, features=8, seed=0):
    """Groups whose centres lie about `gap` within-group spreads apart."""
    g = rng(seed)
    centres = g.standard_normal((len(sizes), features))
    centres *= gap / np.linalg.norm(centres[0] - centres[-1])
    which = np.repeat(range(len(sizes)), sizes)
    return centres[which] + g.standard_normal((len(which), features)) / np.sqrt(features), which


def shaken(vectors, noise=0.1, n=60, seed=9):
    """Fingerprints of prompt resamples: the vectors with a little noise of prompts."""
    return vectors + noise * rng(seed).standard_normal((n, *vectors.shape))


def same(a, b):
    return adjusted_rand_score(a, b) == 1


def test_all_groupings_of_a_tree_equal_scipy():
    x = rng().standard_normal((3, 13, 4))
    tree, every = average_linkage(x[1]), groupings(distances(x))[1]
    assert distances(x)[1] == pytest.approx(squareform(pdist(x[1])))
    for k in range(1, 14):
        assert len(np.unique(every[k - 1])) == k and same(every[k - 1], fcluster(tree, k, "maxclust"))


def test_silhouettes_equal_scikit_learn():
    x = rng(1).standard_normal((12, 3))
    d = squareform(pdist(x))
    every = groupings(d)
    found = silhouettes(d, every)
    expected = [silhouette_score(d, row, metric="precomputed") for row in every[1:-1]]
    assert found[1:-1] == pytest.approx(expected) and np.isnan(found[[0, -1]]).all()


def test_two_and_four_planted_groups_are_found():
    for sizes in ((7, 9), (5, 5, 5, 5)):
        x, which = planted(sizes, 8)
        assert same(best_grouping(x, rng())[0], which)


def found(grouping):
    return len(np.unique(grouping[0]))


def test_the_gap_statistic_sees_one_group_where_there_is_one():
    single = [found(best_grouping(rng(s).standard_normal((16, 8)), rng(s), n_references=20)) for s in range(60)]
    double = [found(best_grouping(planted((8, 8), 8, seed=s)[0], rng(s), n_references=20)) for s in range(60)]
    assert np.mean(np.array(single) == 1) > 0.85 and np.mean(np.array(double) == 1) < 0.05
    assert one_group(rng().standard_normal((2, 16, 8)), np.array([2, 3]), rng()).all()


def test_a_panel_of_two_groups_as_a_whole():
    x, which = planted((6, 8), 8)
    found = topology(x, shaken(x), rng(), n_prompts=24, n_null=200)
    assert same(found.groups, which) and same(found.consensus_groups, which)
    assert found.fragmentation == pytest.approx(2 / 14)
    apart = found.consensus[which[:, None] != which]
    assert apart.max() < 0.05 and found.consensus[which[:, None] == which].min() > 0.95
    sizes = {tuple(np.flatnonzero(which == k)) for k in (0, 1)}
    assert len(found.support) == 13 and found.support[-1] == 1 and len(sizes) == 2
    again = topology(x, shaken(x), rng(), n_prompts=24, n_null=200)
    assert (again.consensus == found.consensus).all() and again.critical == found.critical


def test_a_panel_without_groups_is_one_group_and_prompts_do_not_make_more():
    x = rng(3).standard_normal((14, 8))
    found = topology(x, shaken(x), rng(), n_prompts=24, n_null=200)
    assert len(np.unique(found.consensus_groups)) == 1 and not found.robust_pairs


def robust(x, seed=0, null="columns", noise=0.1):
    every = groupings(distances(shaken(x, noise, 40, seed)))
    return robust_pairs(x, every, rng(seed), n_null=200, null=null)[0]


def test_a_planted_twin_is_a_robust_pair_and_the_only_one():
    x = rng(5).standard_normal((15, 20))
    x[9] = x[2] + 0.1 * rng(6).standard_normal(20)
    assert np.argwhere(np.triu(robust(x))).tolist() == [[2, 9]]
    assert not robust(np.delete(x, 9, axis=0)).any()
    # close, but not again and again: prompts that shake the two apart take the pair away
    assert not robust(x, noise=1.5).any()


def test_together_alone_finds_pairs_in_noise_that_the_distance_does_not():
    x = rng(8).standard_normal((17, 20))
    every = groupings(distances(shaken(x, 0.05)))
    found, fine, _ = robust_pairs(x, every, rng(), n_null=200)
    assert (np.triu(fine, 1) >= 0.95).sum() > 5 and not found.any()
    assert fine_k(17) == 6 and fine_k(18) == 7


def panels_with_robust_pairs(null, load=0.0, n=150):
    """Share of structureless panels with a robust pair; `load` is the share of a common factor in each feature."""
    hits = 0
    for s in range(n):
        g = rng(s)
        common = g.standard_normal((12, 1))
        x = np.sqrt(load) * common + np.sqrt(1 - load) * g.standard_normal((12, 10))
        hits += robust(x, s, null, noise=0.02).any()
    return hits / n


@pytest.mark.slow
def test_at_most_a_twentieth_of_structureless_panels_have_a_robust_pair():
    assert panels_with_robust_pairs("columns") <= 0.09  # .05 + two standard errors at 150


@pytest.mark.slow
def test_correlated_features_break_the_null_of_columns_and_not_that_of_axes():
    """One common factor, no groups: columns permuted by themselves lie farther apart than such models do."""
    assert panels_with_robust_pairs("columns", 0.7) > 0.15
    assert panels_with_robust_pairs("principal", 0.7) <= 0.09


def test_the_closest_pair_of_independent_columns_is_what_the_null_draws():
    g = rng()
    x = g.standard_normal((12, 10))
    drawn = closest_pair_null(x, rng(1), n_draws=400)
    fresh = np.array([pdist(g.standard_normal((12, 10))).min() for _ in range(400)])
    assert np.median(drawn) == pytest.approx(np.median(fresh), rel=0.1)
    with pytest.raises(InputError, match="columns or principal"):
        closest_pair_null(x, g, null="rows")


def test_support_of_merges():
    x, _ = planted((4, 4), 12)
    tree = average_linkage(x)
    assert (node_support(tree, [tree, tree]) == 1).all()
    noise = [average_linkage(rng(s).standard_normal((8, 8))) for s in range(50)]
    support = node_support(tree, noise)
    assert support[-1] == 1 and support[-3:-1].max() < 0.2  # all models together are in every tree


def test_shares_together():
    assert together([[0, 0, 1], [0, 1, 1]]).tolist() == [[1, 0.5, 0], [0.5, 1, 0.5], [0, 0.5, 1]]


def test_leaving_one_out_shows_the_model_that_made_a_group():
    x, _ = planted((6, 6), 8)
    assert (leave_one_out(x, rng()) == 1).all()
    assert np.isnan(leave_one_out(x[:3], rng())).all()


def test_a_map_of_points_in_a_plane_is_exact_and_of_a_simplex_is_not():
    x = rng().standard_normal((9, 2)) @ np.linalg.qr(rng(1).standard_normal((7, 7)))[0][:2]
    places, stress = flat_map(squareform(pdist(x)))
    assert pdist(places) == pytest.approx(pdist(x), abs=1e-3) and stress < 1e-3
    _, stress = flat_map(1 - np.eye(9))
    assert stress > 0.2
    assert (flat_map(squareform(pdist(x)))[0] == places).all()


def test_agreement_of_groupings_and_of_distances():
    x, which = planted((6, 6), 8)
    value, p = grouping_agreement(which, which[::-1], rng())
    assert value == 1 and p < 0.01
    value, p = grouping_agreement(which, np.tile([0, 1], 6), rng())
    assert value < 0.1 and p > 0.3
    d = squareform(pdist(x))
    r, p = mantel(d, 3 * d + 1, rng())
    assert r == pytest.approx(1) and p < 0.01
    other = squareform(pdist(rng(4).standard_normal((12, 8))))
    r, p = mantel(d, other, rng())
    upper = np.triu_indices(12, 1)
    assert r == pytest.approx(np.corrcoef(d[upper], other[upper])[0, 1]) and p > 0.05
    assert np.isnan(mantel(d, np.zeros_like(d), rng())).all()
    with pytest.raises(InputError):
        mantel(d, d[:5, :5], rng())


def test_wrong_panels_are_refused():
    x = rng().standard_normal((6, 3))
    with pytest.raises(InputError, match="three or more models"):
        topology(x, shaken(x)[:, :5], rng(), n_prompts=9)
    with pytest.raises(InputError, match="two or more vectors"):
        average_linkage(x[:1])
