"""Simulated lens tables, for G1-G4: panels without a split of GD_ratio, with one, and with what only looks like one.

Every cell is a whole distribution over a small vocabulary: p1 about .35, p2 = rivalry * p1, and a flat tail that ends
smoothly, as long as it must be for all models to have one entropy. So GD_ratio is planted, and a common temperature has
nothing to do unless a scenario gives it something.
"""

from collections.abc import Mapping

import numpy as np

from phaselens.experiments import Panel
from phaselens.validity.simulated_panels import RUNS, infos, model_of, one_peak, study_of, two_groups, upper_group

VOCABULARY = 100
LAYERS = 2
STEPS = 2
LEAD = 0.35
ENTROPY = 2.6
CENTRE = -0.54
UNIT = 0.1
CELL_SD = 0.1
MATCHED_ON = 8


def lens_columns(logits: np.ndarray, vocabulary: np.ndarray | int | None = None) -> dict[str, np.ndarray]:
    """What a trace records of logits under a lens (1): top1, rivalry, top10_mass, entropy_norm, dispersion.

    Shapes: [..., V] -> [...]. `vocabulary` is the size by which entropy is normalised (default V), so that rows of
    probability 0 need not be carried along.
    """
    p = np.exp(logits - logits.max(axis=-1, keepdims=True))
    p /= p.sum(axis=-1, keepdims=True)
    top = -np.partition(-p, 9, axis=-1)[..., :10]
    pair = -np.partition(-top, 1, axis=-1)[..., :2]
    return {
        "top1": pair[..., 0],
        "rivalry": pair[..., 1] / pair[..., 0],
        "top10_mass": top.sum(axis=-1),
        "entropy_norm": entropy(p) / np.log(p.shape[-1] if vocabulary is None else vocabulary),
        "dispersion": np.log1p((p > 0.01).sum(axis=-1)) / np.log(100),
    }


def entropy(p: np.ndarray) -> np.ndarray:
    """Entropy of distributions [..., V] (nats)."""
    return -(p * np.log(np.maximum(p, 1e-300))).sum(axis=-1)


def tails(wanted: np.ndarray) -> np.ndarray:
    """Flat distributions over the other tokens that end smoothly, with the wanted entropies (1); [...] -> [..., V-2].

    `q_j ~ exp(-(j / k)^4)`, k by interpolation; what cannot be reached is met as nearly as it can be.
    """
    lengths = np.geomspace(0.5, 10.0 * VOCABULARY, 400)
    q = np.exp(-((np.arange(VOCABULARY - 2) / lengths[:, None]) ** 4))
    q /= q.sum(axis=1, keepdims=True)
    k = np.interp(wanted, entropy(q), lengths)
    q = np.exp(-((np.arange(VOCABULARY - 2) / k[..., None]) ** 4))
    return q / q.sum(axis=-1, keepdims=True)


def cells(log_gd: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Logits of every cell of models whose log GD_ratio is given (nats); [model, ...] -> [model, run, step, ..., V].

    With G = p1 of mean .35 and D of mean `.35 exp(-log_gd)`, GD_ratio = mean G / mean D is `exp(log_gd)` but for the
    noise of the cells.
    """
    shape = (len(log_gd), RUNS, STEPS, *log_gd.shape[1:])
    rivalry = LEAD * np.exp(-log_gd)
    second = LEAD * rivalry
    rest = 1 - LEAD - second
    known = -LEAD * np.log(LEAD) - second * np.log(second) - rest * np.log(rest)
    tail = tails((ENTROPY - known) / rest)[:, None, None]
    noise = np.exp(CELL_SD * generator.standard_normal(shape) - CELL_SD**2 / 2)
    first = LEAD + 0.05 * (2 * generator.random(shape) - 1)
    other = first * np.minimum(rivalry[:, None, None] * noise, 0.99)
    p = np.concatenate([first[..., None], other[..., None], (1 - first - other)[..., None] * tail], axis=-1)
    return np.log(np.maximum(p, 1e-300))


def matching_temperatures(output: np.ndarray) -> np.ndarray:
    """T of each model so that its mean entropy (nats) is the panel's median (1), by bisection on [.05, 20].

    Shapes: output logits [model, ..., V] -> [model].
    """

    def mean_entropy(t: np.ndarray) -> np.ndarray:
        scaled = output / t.reshape(-1, *(1,) * (output.ndim - 1))
        p = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
        p /= p.sum(axis=-1, keepdims=True)
        return entropy(p).reshape(len(output), -1).mean(axis=1)

    target = np.median(mean_entropy(np.ones(len(output))))
    low, high = np.full(len(output), np.log(0.05)), np.full(len(output), np.log(20.0))
    for _ in range(22):
        middle = (low + high) / 2
        less = mean_entropy(np.exp(middle)) < target
        low, high = np.where(less, middle, low), np.where(less, high, middle)
    return np.exp((low + high) / 2)


def lens_tables(logits: np.ndarray, raw: np.ndarray, vocabulary: np.ndarray) -> dict[str, np.ndarray]:
    """The layer columns of models under every lens that a study records, [model, run, step, layer] each.

    Shapes: logits and raw [model, run, step, layer, V], vocabulary [model]. The temperature is matched on the first
    runs; every fourth token of the tail is not shared between the tokenizers. The tuned lens is the final-norm one: a
    translator that changes nothing.
    """
    size = vocabulary[:, None, None, None]
    t = matching_temperatures(logits[:, :MATCHED_ON, :1, -1])
    shared = np.arange(VOCABULARY) % 4 != 3
    columns = lens_columns(logits, size)
    columns |= {f"{k}__tuned": columns[k] for k in ("top1", "rivalry")}
    for label, other in (("raw", raw), ("tmatch", logits / t[:, None, None, None, None])):
        columns |= {f"{k}__{label}": v for k, v in lens_columns(other, size).items()}
    return columns | {f"{k}__shared": v for k, v in lens_columns(logits[..., shared]).items()}


def study_with(
    logits: np.ndarray, raw: np.ndarray, twins: np.ndarray, generator: np.random.Generator, vocabulary=None
) -> Panel:
    """A study from logits of M trained models under two lenses, and the log GD_ratio of their untrained twins.

    Shapes: logits and raw [M, run, step, layer, V], twins [M], vocabulary [M] (default: as many tokens as there are).
    """
    m = len(logits)
    vocabulary = np.full(m, VOCABULARY) if vocabulary is None else vocabulary
    trained = lens_tables(logits, raw, vocabulary)
    untrained = lens_columns(cells(_all_layers(twins), generator))
    first, second = infos(m, n_layers=LAYERS, vocab_size=VOCABULARY, apart=True)
    models = [_model(info, trained, i) for i, info in enumerate(first)]
    models += [_model(info, untrained, i) for i, info in enumerate(second)]
    return study_of(models, generator)


def _model(info, columns: Mapping[str, np.ndarray], i: int):
    own = {k: v[i] for k, v in columns.items()}
    return model_of(info, own, {k: own[k][:, :, -1] for k in ("top1", "rivalry")})


def _all_layers(log_gd: np.ndarray) -> np.ndarray:
    return np.repeat(log_gd[:, None], LAYERS, axis=1)


def even_twins(m: int, generator: np.random.Generator) -> np.ndarray:
    """Log GD_ratio of M untrained twins that hardly differ (1)."""
    return CENTRE + 0.02 * generator.standard_normal(m)


def _of_values(values: np.ndarray, generator: np.random.Generator, twins: np.ndarray | None = None) -> Panel:
    log_gd = _all_layers(CENTRE + UNIT * values)
    twins = even_twins(len(values), generator) if twins is None else twins
    return study_with(cells(log_gd, generator), cells(log_gd, generator), twins, generator)


def without_split(generator: np.random.Generator, *, shape: str, m: int) -> Panel:
    """M models whose log GD_ratio has one peak, under every lens."""
    return _of_values(one_peak(shape, m, generator), generator)


def with_split(generator: np.random.Generator, *, gap: float, m: int, dead_rows: bool = False) -> Panel:
    """M models whose log GD_ratio lies in two groups `gap` within-group SDs apart, under every lens.

    With `dead_rows` every second model has twice the vocabulary, all of it tokens of probability 0.
    """
    log_gd = _all_layers(CENTRE + UNIT * two_groups(gap, m, generator))
    doubled = (np.arange(m) % 2 == 1) & dead_rows
    vocabulary = VOCABULARY * np.where(doubled, 2, 1)
    twins = even_twins(m, generator)
    return study_with(cells(log_gd, generator), cells(log_gd, generator), twins, generator, vocabulary)


def of_architecture(generator: np.random.Generator, *, gap: float, m: int) -> Panel:
    """M models in two groups that their untrained twins form as well."""
    values = two_groups(gap, m, generator)
    return _of_values(values, generator, CENTRE + UNIT * (values + 0.1 * generator.standard_normal(m)))


def of_temperature(generator: np.random.Generator, *, m: int, scale: float = 1.6) -> Panel:
    """M models without groups; the logits of some are multiplied by 1.6, and nothing else is done to them.

    Sharper logits also spread a group, so its models lie half as far apart as elsewhere to begin with.
    """
    log_gd = _all_layers(CENTRE + 0.3 + UNIT / 2 * one_peak("normal", m, generator))
    factor = np.where(upper_group(m), scale, 1.0)[:, None, None, None, None]
    logits, raw = (factor * cells(log_gd, generator) for _ in range(2))
    return study_with(logits, raw, even_twins(m, generator), generator)


def of_one_lens(generator: np.random.Generator, *, gap: float, m: int) -> Panel:
    """Two groups under the final-norm lens, none under the raw one."""
    split = _all_layers(CENTRE + UNIT * two_groups(gap, m, generator))
    even = _all_layers(CENTRE + UNIT * one_peak("normal", m, generator))
    return study_with(cells(split, generator), cells(even, generator), even_twins(m, generator), generator)


def of_inner_layers(generator: np.random.Generator, *, gap: float, m: int) -> Panel:
    """Two groups at the inner layers under both lenses, none at the output.

    The mean over layers dilutes the gap, so the models of a group lie half as far apart as elsewhere.
    """
    log_gd = _all_layers(CENTRE + UNIT / 2 * two_groups(2 * gap, m, generator))
    log_gd[:, -1] = CENTRE + UNIT / 2 * one_peak("normal", m, generator)
    return study_with(cells(log_gd, generator), cells(log_gd, generator), even_twins(m, generator), generator)
