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
BLOCK = 50  # sets of vectors whose references are grouped at once


def average_linkage(vectors: np.ndarray) -> np.ndarray:
    """Tree of average linkage, [M - 1, 4] as SciPy gives it (heights in units of the distance). M >= 2."""
    if len(vectors) < 2 or not np.isfinite(vectors).all():
        raise InputError(f"a tree needs two or more vectors without NaN; got shape {np.shape(vectors)}.")
    return linkage(pdist(vectors), "average")


def distances(vectors: np.ndarray) -> np.ndarray:
    """Euclidean distances within each set of vectors: [..., M, feature] -> [..., M, M] (unit of the vectors)."""
    x = np.asarray(vectors, float)
    square = (x**2).sum(axis=-1)
    apart = square[..., :, None] + square[..., None, :] - 2 * x @ np.swapaxes(x, -1, -2)
    apart[..., range(x.shape[-2]), range(x.shape[-2])] = 0.0
    return np.sqrt(np.maximum(apart, 0.0))


def groupings(distance: np.ndarray) -> np.ndarray:
    """Labels at k = 1..M groups of average linkage, for many distance matrices at once: row k - 1 has k groups; nested.

    The same merges as `average_linkage` (a test holds them together), side by side because a bootstrap needs thousands.
    Shapes: distance [..., M, M] -> int [..., M, M], labels of a row are not consecutive.
    """
    shape = np.shape(distance)
    m = shape[-1]
    d = np.array(distance, float).reshape(-1, m, m)
    rows, labels = np.arange(len(d)), np.tile(np.arange(m), (len(d), 1))
    d[:, range(m), range(m)] = np.inf
    size, out = np.ones((len(d), m)), np.empty((len(d), m, m), int)
    out[:, m - 1] = labels
    for k in range(m - 1, 0, -1):
        i, j = np.divmod(d.reshape(len(d), -1).argmin(axis=1), m)
        of_i, of_j = size[rows, i][:, None], size[rows, j][:, None]
        merged = (of_i * d[rows, i] + of_j * d[rows, j]) / (of_i + of_j)
        d[rows, i], d[rows, :, i] = merged, merged
        d[rows, j], d[rows, :, j] = np.inf, np.inf
        size[rows, i] += of_j[:, 0]
        labels = np.where(labels == j[:, None], i[:, None], labels)
        out[:, k - 1] = labels
    return out.reshape(shape)


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


def one_group(
    vectors: np.ndarray, k: np.ndarray, generator: np.random.Generator, *, n_references: int = 50
) -> np.ndarray:
    """Whether the gap statistic prefers one group to the k groups of average linkage.

    Gap(k) = mean of ln W(k) over references - ln W(k), W the spread within groups; one group if Gap(1) >= Gap(k) -
    s(k). References are uniform over the box of the data along its principal axes. k is the one that the silhouette
    proposes: compared with two groups only, four equal ones look like one.
    Shapes: vectors [set, M, feature], k int [set] -> bool [set]. Source: Tibshirani, Walther and Hastie 2001.
    """
    scores = _principal(vectors)[None]
    low, width = scores.min(axis=2, keepdims=True), np.ptp(scores, axis=2, keepdims=True)
    drawn = _log_within(low + width * generator.random((n_references, *scores.shape[1:])), k)
    gap = drawn.mean(axis=1) - _log_within(scores, k)[:, 0]
    return gap[0] >= gap[1] - drawn[1].std(axis=0) * math.sqrt(1 + 1 / n_references)


def _principal(vectors: np.ndarray) -> np.ndarray:
    """Scores along the principal axes, [..., M, axis]; distances are those of the vectors."""
    u, size, _ = np.linalg.svd(vectors - vectors.mean(axis=-2, keepdims=True), full_matrices=False)
    return u * size[..., None, :]


def _log_within(points: np.ndarray, k: np.ndarray) -> np.ndarray:
    """Logarithm of the spread within one group and within k: points [draw, set, M, axis], k [set] -> [2, draw, set]."""
    m = points.shape[-2]
    labels = groupings(distances(points))[:, np.arange(len(k)), k - 1]
    member = (labels[..., None, :] == np.arange(m)[:, None]).astype(float)
    share = (((member @ points) ** 2).sum(axis=-1) / np.maximum(member.sum(axis=-1), 1)).sum(axis=-1)
    square = (points**2).sum(axis=(-1, -2))
    whole = square - (points.sum(axis=-2) ** 2).sum(axis=-1) / m
    return np.log(np.maximum([whole, square - share], 1e-300))


def best_grouping(
    vectors: np.ndarray, generator: np.random.Generator, *, n_references: int = 50
) -> tuple[np.ndarray, np.ndarray]:
    """Labels [M] of the best grouping, and the mean silhouette at k = 2..M-1 (1).

    The k with the largest silhouette, unless the gap statistic prefers k = 1 to it. Fewer than three models are one
    group.
    """
    vectors = np.asarray(vectors, float)
    if len(vectors) < SMALLEST_PANEL:
        return np.zeros(len(vectors), int), np.empty(0)
    best, width = _best(vectors[None], groupings(distances(vectors))[None], generator, n_references)
    return np.unique(best[0], return_inverse=True)[1], width[0]


def _best(
    vectors: np.ndarray, every: np.ndarray, generator: np.random.Generator, n_references: int
) -> tuple[np.ndarray, np.ndarray]:
    """Labels [set, M] and silhouettes [set, M - 2] of sets of vectors [set, M, feature] with their groupings."""
    width = np.stack([silhouettes(d, e[1:-1]) for d, e in zip(distances(vectors), every, strict=True)])
    k = 2 + width.argmax(axis=1)
    blocks = [slice(start, start + BLOCK) for start in range(0, len(k), BLOCK)]
    alone = np.concatenate([one_group(vectors[b], k[b], generator, n_references=n_references) for b in blocks])
    return every[np.arange(len(k)), np.where(alone, 1, k) - 1], width


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
    every = groupings(distances(draws))
    consensus = together(_best(draws, every, generator, n_references)[0])
    consensus_groups = _consensus_groups(consensus)
    robust, fine, critical = robust_pairs(vectors, every, generator, n_null=n_null, null=null)
    return Topology(
        groups,
        silhouette=width,
        consensus=consensus,
        consensus_groups=consensus_groups,
        fragmentation=len(np.unique(consensus_groups)) / m,
        fine=fine,
        distance=squareform(pdist(vectors)),
        critical=critical,
        robust=robust,
        tree=tree,
        support=node_support(tree, trees),
        n_prompts=n_prompts,
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
    return np.unique(groupings(1 - consensus)[k - 1], return_inverse=True)[1]


def closest_pair_null(
    vectors: np.ndarray, generator: np.random.Generator, *, n_draws: int = 2000, null: str = "columns"
) -> np.ndarray:
    """Smallest pair distance when columns are permuted over models independently, float64 [n_draws] (spreads).

    `columns` permutes features, as the definition says: it also breaks what features have in common over all models, so
    correlated features make pairs look close that are not (12 models, 10 features, no groups: a robust pair in 4 % of
    panels, but in 12 % and 72 % where a common factor carries .3 and .7 of each feature). `principal` permutes scores
    along principal axes, which keeps the covariance (0 to 1 % there; it still finds a twin within .3 spreads per
    feature, and about half of those at .5). Report both where features are correlated.
    Source: docs/definitions, section 6; `principal` after the reference of the gap statistic.
    """
    if null not in ("columns", "principal"):
        raise InputError(f"got the null {null!r}, wanted columns or principal.")
    columns = vectors if null == "columns" else _principal(vectors)
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
