"""Clusters of models by their fingerprints, and how much of them is more than prompts and chance.

Average linkage on Euclidean distances between fingerprints [model, feature]; all groupings k = 1..M of one tree at
once. Prompts are resampled (`resampled_fingerprints` gives the draws), models never: with few
models leave-one-out says more.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import pdist, squareform

from phaselens.errors import InputError
from phaselens.statistics.agreement import adjusted_rand

TOGETHER = 0.95
CONSENSUS = 0.5
LEVEL = 0.05
SMALLEST_PANEL = 3


def average_linkage(vectors: np.ndarray) -> np.ndarray:
    """Tree of average linkage, [M - 1, 4] as SciPy gives it (heights in units of the distance). M >= 2."""
    if len(vectors) < 2 or not np.isfinite(vectors).all():
        raise InputError(f"a tree needs two or more vectors without NaN; got shape {np.shape(vectors)}.")
    return linkage(pdist(vectors), "average")


def groupings(tree: np.ndarray) -> np.ndarray:
    """Labels of the models at k = 1..M groups of a tree: int [M, M], row k - 1 has k groups; nested."""
    m = len(tree) + 1
    labels = np.arange(m)
    out = np.empty((m, m), int)
    out[m - 1] = labels
    for i, (a, b) in enumerate(tree[:, :2].astype(int)):
        labels = np.where((labels == a) | (labels == b), m + i, labels)
        out[m - 2 - i] = labels
    return out


def silhouettes(distance: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Mean silhouette of several groupings of the same models (1), in [-1, 1].

    `(b - a) / max(a, b)`, a the mean distance to the own group, b to the nearest other; 0 for a model on its own.
    Shapes: distance [M, M], labels int [grouping, M] -> [grouping]. NaN: one group, or M groups.
    Source: Rousseeuw 1987.
    """
    dense = np.stack([np.unique(row, return_inverse=True)[1] for row in labels])
    member = (dense[..., None] == np.arange(distance.shape[0])).astype(float)
    size = member.sum(axis=1)
    sums = distance @ member
    own = np.take_along_axis(size, dense, axis=1)
    inside = np.take_along_axis(sums, dense[..., None], axis=2)[..., 0] / np.maximum(own - 1, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        others = np.where((size[:, None] > 0) & (member == 0), sums / size[:, None], np.inf).min(axis=2)
        value = (others - inside) / np.maximum(others, inside)
    value = np.where(own == 1, 0.0, np.nan_to_num(value))
    groups = (size > 0).sum(axis=1)
    return np.where((groups > 1) & (groups < distance.shape[0]), value.mean(axis=1), np.nan)


def one_group(vectors: np.ndarray, k: int, generator: np.random.Generator, *, n_references: int = 50) -> bool:
    """Whether the gap statistic prefers one group to the k groups of average linkage.

    Gap(k) = mean of ln W(k) over references - ln W(k), W the spread within groups; one group if Gap(1) >= Gap(k) -
    s(k). References are uniform over the box of the data along its principal axes. k is the one that the silhouette
    proposes: compared with two groups only, four equal ones look like one.
    Source: Tibshirani, Walther and Hastie 2001.
    """
    scores = _principal(vectors - vectors.mean(axis=0))
    low, high = scores.min(axis=0), scores.max(axis=0)
    references = (low + (high - low) * generator.random(scores.shape) for _ in range(n_references))
    drawn = np.array([_log_within(one, k) for one in references])
    gap = drawn.mean(axis=0) - _log_within(scores, k)
    return bool(gap[0] >= gap[1] - drawn[:, 1].std() * math.sqrt(1 + 1 / n_references))


def _principal(centred: np.ndarray) -> np.ndarray:
    """Scores along the principal axes [M, axis]; distances are those of the vectors."""
    u, size, _ = np.linalg.svd(centred, full_matrices=False)
    return (u * size)[:, size > 1e-10 * max(size[0], 1e-300)]


def _log_within(points: np.ndarray, k: int) -> tuple[float, float]:
    """Logarithm of the spread within one group and within the k groups of average linkage."""
    labels = groupings(average_linkage(points))[k - 1]
    member = (labels == np.unique(labels)[:, None]).astype(float)
    centres = member @ points / member.sum(axis=1, keepdims=True)
    within = ((points - member.T @ centres) ** 2).sum()
    whole = ((points - points.mean(axis=0)) ** 2).sum()
    return math.log(max(whole, 1e-300)), math.log(max(within, 1e-300))


def best_grouping(
    vectors: np.ndarray, generator: np.random.Generator, *, n_references: int = 50
) -> tuple[np.ndarray, np.ndarray]:
    """Labels [M] of the best grouping, and the mean silhouette at k = 2..M-1 (1).

    The k with the largest silhouette, unless the gap statistic prefers k = 1 to it. Fewer than three models are one
    group.
    """
    if len(vectors) < SMALLEST_PANEL:
        return np.zeros(len(vectors), int), np.empty(0)
    every = groupings(average_linkage(vectors))
    best, width = _best(vectors, every, generator, n_references)
    return np.unique(best, return_inverse=True)[1], width


def _best(
    vectors: np.ndarray, every: np.ndarray, generator: np.random.Generator, n_references: int
) -> tuple[np.ndarray, np.ndarray]:
    width = silhouettes(squareform(pdist(vectors)), every[1:-1])
    k = 2 + int(np.argmax(width))
    alone = one_group(vectors, k, generator, n_references=n_references)
    return every[0 if alone else k - 1], width


def together(labels: np.ndarray) -> np.ndarray:
    """Share of groupings in which two models are in one group (proportion): int [draw, M] -> [M, M]."""
    labels = np.asarray(labels)
    out = np.zeros((labels.shape[1],) * 2)
    for row in labels:
        out += row[:, None] == row
    return out / len(labels)


def fine_k(m: int) -> int:
    """The least number of groups above a third of the models; trees are nested, so a pair together at more is here."""
    return m // 3 + 1


@dataclass(frozen=True, eq=False)
class Topology:
    """Groups of a panel and what carries them. Arrays are over models in the order given.

    `groups` is the best grouping of the whole, `silhouette` at k = 2..M-1; `consensus` [M, M] the share of prompt
    resamples whose best grouping puts two models together, `consensus_groups` the groups of that, `fragmentation` their
    number over M (proportion). `fine` [M, M] is the share together at the least k above M / 3; `distance` [M, M];
    `critical` the 5 % point of the smallest distance under independent columns; `robust` bool [M, M]. `support` is, for
    each merge of the tree, the share of resamples whose tree holds the same set of models. `n_prompts` were resampled.
    """

    groups: np.ndarray
    silhouette: np.ndarray
    consensus: np.ndarray
    consensus_groups: np.ndarray
    fragmentation: float
    fine: np.ndarray
    distance: np.ndarray
    critical: float
    robust: np.ndarray
    tree: np.ndarray
    support: np.ndarray
    n_prompts: int

    @property
    def robust_pairs(self) -> tuple[tuple[int, int], ...]:
        """Pairs of models (first < second) that meet both conditions."""
        return tuple((int(i), int(j)) for i, j in np.argwhere(np.triu(self.robust, 1)))


def topology(
    vectors: np.ndarray,
    draws: np.ndarray,
    generator: np.random.Generator,
    *,
    n_prompts: int,
    n_null: int = 2000,
    n_references: int = 10,
    null: str = "columns",
) -> Topology:
    """Cluster a panel and say which pairs are robust (distances in spreads of prompts).

    A pair is robust if its distance is below the 5 % point of the smallest pair distance when every column is permuted
    over models by itself, and it is together in >= 95 % of the prompt resamples at the least k above M / 3.
    Shapes: vectors [M, feature]; draws [B, M, feature] the fingerprints of prompt resamples. `null` as in
    `closest_pair_null`. Run it again without twins. Raises InputError for fewer than three models, NaN, other shapes.
    Moves with: the list of features, and how correlated they are (see `closest_pair_null`).
    Source: docs/definitions, section 6.
    """
    vectors, draws = np.asarray(vectors, float), np.asarray(draws, float)
    m = len(vectors)
    if m < SMALLEST_PANEL or draws.shape[1:] != vectors.shape or not np.isfinite(draws).all():
        raise InputError(
            f"a panel has three or more models and draws [B, *vectors.shape] without NaN; got {vectors.shape} and "
            f"{draws.shape}."
        )
    tree = average_linkage(vectors)
    groups, width = best_grouping(vectors, generator, n_references=5 * n_references)
    trees = [average_linkage(draw) for draw in draws]
    every = np.stack([groupings(one) for one in trees])
    best = [_best(d, e, generator, n_references)[0] for d, e in zip(draws, every, strict=True)]
    consensus = together(np.array(best))
    consensus_groups = _consensus_groups(consensus)
    robust, fine, critical = robust_pairs(vectors, every, generator, n_null=n_null, null=null)
    return Topology(
        groups,
        width,
        consensus,
        consensus_groups,
        len(np.unique(consensus_groups)) / m,
        fine,
        squareform(pdist(vectors)),
        critical,
        robust,
        tree,
        node_support(tree, trees),
        n_prompts,
    )


def robust_pairs(
    vectors: np.ndarray, every: np.ndarray, generator: np.random.Generator, *, n_null: int = 2000, null: str = "columns"
) -> tuple[np.ndarray, np.ndarray, float]:
    """Robust pairs (bool [M, M]), the share together at the least k above M / 3 [M, M], and the critical distance.

    `every` holds the groupings of each prompt resample, int [B, M, M]; see `topology` for the two conditions.
    """
    m = len(vectors)
    fine = together(every[:, fine_k(m) - 1])
    critical = float(np.quantile(closest_pair_null(vectors, generator, n_draws=n_null, null=null), LEVEL))
    robust = (squareform(pdist(vectors)) < critical) & (fine >= TOGETHER) & ~np.eye(m, dtype=bool)
    return robust, fine, critical


def _consensus_groups(consensus: np.ndarray) -> np.ndarray:
    """Average linkage on 1 - consensus, cut where models are together in half of the resamples."""
    tree = linkage(squareform(1 - consensus, checks=False), "average")
    k = len(consensus) - int((tree[:, 2] < CONSENSUS).sum())
    return np.unique(groupings(tree)[k - 1], return_inverse=True)[1]


def closest_pair_null(
    vectors: np.ndarray, generator: np.random.Generator, *, n_draws: int = 2000, null: str = "columns"
) -> np.ndarray:
    """Smallest pair distance when columns are permuted over models independently, float64 [n_draws] (spreads).

    `columns` permutes features, as the definition says: it also breaks what features have in common over all models, so
    correlated features make pairs look close that are not. `principal` permutes scores along principal axes, which
    keeps the covariance; report both where features are correlated.
    Source: docs/definitions, section 6; `principal` after the reference of the gap statistic.
    """
    if null not in ("columns", "principal"):
        raise InputError(f"got the null {null!r}, wanted columns or principal.")
    columns = vectors if null == "columns" else _principal(vectors - vectors.mean(axis=0))
    out = np.empty(n_draws)
    for i in range(n_draws):
        out[i] = pdist(generator.permuted(columns, axis=0)).min()
    return out


def node_support(tree: np.ndarray, trees: list[np.ndarray]) -> np.ndarray:
    """Share of trees that hold each set of models that `tree` joins, by merge (proportion) [M - 1]."""
    wanted = _members(tree)
    found = [set(_members(one)) for one in trees]
    return np.array([sum(one in held for held in found) for one in wanted]) / max(len(trees), 1)


def _members(tree: np.ndarray) -> list[int]:
    """The set of models of each merge as the bits of a whole number."""
    held = [1 << i for i in range(len(tree) + 1)]
    for a, b in tree[:, :2].astype(int):
        held.append(held[a] | held[b])
    return held[len(tree) + 1 :]


def leave_one_out(vectors: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Adjusted Rand index between the best grouping with all models and that without one of them (1), [M].

    NaN: fewer than four models. Needed below 12 models, where one model may make a grouping.
    """
    m = len(vectors)
    if m < SMALLEST_PANEL + 1:
        return np.full(m, np.nan)
    whole, _ = best_grouping(vectors, generator)
    kept = ~np.eye(m, dtype=bool)
    return np.array([adjusted_rand(whole[k], best_grouping(vectors[k], generator)[0]) for k in kept])


def flat_map(distance: np.ndarray) -> tuple[np.ndarray, float]:
    """Places of the models in the plane, [M, 2] (units of the distance), and the normalised stress (1).

    SMACOF from the classical solution, so the same distances give the same map; axes have no meaning. Stress
    sqrt(sum (d - map distance)^2 / sum map distance^2): 0 is exact, above .2 the plane misleads.
    Source: Torgerson 1952; de Leeuw 1977; Kruskal 1964.
    """
    from sklearn.manifold import smacof  # slow to import, and only maps need it

    d = np.asarray(distance, float)
    centre = np.eye(len(d)) - 1 / len(d)
    value, axes = np.linalg.eigh(-0.5 * centre @ d**2 @ centre)
    start = axes[:, ::-1][:, :2] * np.sqrt(np.maximum(value[::-1][:2], 0.0))
    places, _ = smacof(d, n_components=2, init=start, n_init=1, normalized_stress=False)
    places = places - places.mean(axis=0)
    flat = pdist(places)
    return places, float(np.sqrt(((squareform(d, checks=False) - flat) ** 2).sum() / (flat**2).sum()))
