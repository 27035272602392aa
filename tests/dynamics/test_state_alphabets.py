"""States by their rules, the sweep, occupancies, and what agreement of models is worth."""

import numpy as np
import pytest

from phaselens.dynamics.state_alphabets import (
    BIFURCATION,
    GRAMMAR,
    QUANTILES,
    RIVALRIES,
    A,
    B,
    C,
    D,
    E,
    bifurcation_states,
    consistency,
    grammar_states,
    marks,
    occupancies,
    shuffled_counts,
    state_counts,
    tally,
    turbulence_threshold,
)
from phaselens.errors import InputError
from phaselens.statistics.resampling import bootstrap_weights


def columns(turbulence, rivalry, above, p1, agrees):
    names = ("turbulence", "rivalry", "n_above_1pct", "top1", "agrees")
    values = np.broadcast_arrays(turbulence, rivalry, above, p1, agrees)
    return dict(zip(names, (np.asarray(v, float) for v in values), strict=True))


@pytest.mark.parametrize(
    ("cell", "state"),
    [
        ((0.9, 0.6, 3, 0.4, 1), D),
        ((0.1, 0.6, 3, 0.4, 1), B),
        ((0.9, 0.2, 3, 0.8, 1), A),  # turbulence comes before commitment
        ((0.1, 0.2, 3, 0.8, 1), C),
        ((0.1, 0.2, 3, 0.8, 0), E),  # leads, but is not the final choice
        ((0.1, 0.2, 3, 0.3, 1), E),
        ((0.5, 0.5, 2, 0.5, 1), B),  # thresholds: turbulence strict, the others not
        ((0.1, 1.0, 1, 0.3, 1), E),  # a rival below 1 % is none
        ((np.nan, 0.6, 3, 0.4, 1), -1),
        ((0.9, np.nan, 3, 0.4, 1), -1),
    ],
)
def test_the_rule_of_each_state(cell, state):
    assert bifurcation_states(marks(columns(*cell), 0.5))[()] == state


def test_the_grammar_is_another_alphabet():
    assert grammar_states(np.array([[A, B, C], [D, E, -1]])).tolist() == [[1, 0, 2], [0, 1, -1]]
    assert len(set(BIFURCATION) | set(GRAMMAR)) == 8


@pytest.fixture
def cells():
    g = np.random.default_rng(0)
    return columns(g.random((4, 6, 5)), g.random((4, 6, 5)), g.integers(0, 9, (4, 6, 5)), g.random((4, 6, 5)), 1.0)


def test_the_threshold_is_a_percentile_of_the_calibration_runs(cells):
    t = cells["turbulence"].copy()
    t[0, 0] = np.nan
    assert turbulence_threshold(t) == pytest.approx(np.nanquantile(t, 0.75))
    assert np.isnan(turbulence_threshold(np.full(3, np.nan)))
    share = marks(cells, turbulence_threshold(cells["turbulence"])).turbulent.mean()
    assert share == pytest.approx(0.25, abs=0.01)


def test_the_sweep_holds_the_default_and_moves_the_right_way(cells):
    cuts = turbulence_threshold(cells["turbulence"], quantile=np.array(QUANTILES))
    of = [[bifurcation_states(marks(cells, q, rivalry=r)) for r in RIVALRIES] for q in cuts]
    swept = np.array(of)
    assert swept.shape == (7, 5, 4, 6, 5) and swept.dtype == np.int8
    usual = bifurcation_states(marks(cells, turbulence_threshold(cells["turbulence"])))
    assert (swept[3, 2] == usual).all()
    full = (swept == D).mean(axis=(2, 3, 4))
    assert (np.diff(full, axis=0) <= 0).all() and (np.diff(full, axis=1) <= 0).all() and full[0, 0] > full[-1, -1]


def test_occupancies_weigh_prompts(cells):
    states = bifurcation_states(marks(cells, 0.5))
    states[1, 2] = -1
    counts = state_counts(states, 5)
    assert counts.sum(axis=1).tolist() == [30, 25, 30, 30]
    assert occupancies(counts) == pytest.approx([(states == s).sum() / 115 for s in range(5)])
    w = bootstrap_weights(4, np.random.default_rng(1), n_boot=3)
    again = np.concatenate([states[[i] * n].ravel() for i, n in enumerate(w[0])])
    assert occupancies(counts, w)[0] == pytest.approx([(again == s).sum() / (again >= 0).sum() for s in range(5)])
    assert np.isnan(occupancies(np.zeros((2, 5)))).all()


def test_hypergeometric_counts_are_those_of_shuffled_cells(cells):
    of = marks(cells, 0.6)
    g = np.random.default_rng(2)
    fast = shuffled_counts(tally(of), g, n_draws=4000)
    slow = []
    for _ in range(1000):
        t, s, c = (g.permutation(x.ravel()) for x in (of.turbulent, of.rival, of.committed))
        moved = type(of)(t, s, c, of.defined.ravel())
        slow.append(state_counts(bifurcation_states(moved)[None], 5)[0])
    slow = np.array(slow)
    assert (fast.sum(axis=1) == 120).all()
    assert fast.mean(axis=0) == pytest.approx(slow.mean(axis=0), abs=0.5)
    assert fast.std(axis=0) == pytest.approx(slow.std(axis=0), rel=0.12)


def _model(g, committed, linked):
    """Marks with a given rate of commitment; `linked`: it falls only on cells that are neither turbulent nor rival."""
    n = 4000
    t, s = g.random(n) < 0.1, g.random(n) < 0.12
    calm = ~t & ~s
    c = calm & (g.random(n) < committed / calm.mean()) if linked else g.random(n) < committed
    return tally(marks(columns(t, np.where(s, 0.9, 0.1), 5, np.where(c, 0.9, 0.1), 1), 0.5))


def test_agreement_that_the_rules_force_is_not_consistency():
    g = np.random.default_rng(3)
    rates = [0.45, 0.55] * 4  # by chance alone C comes before E in every other model
    alike = consistency([_model(g, c, False) for c in rates], g, n_draws=400)
    assert alike.w > 0.7 and alike.p > 0.05  # high by construction, and no evidence
    linked = consistency([_model(g, c, True) for c in rates], g, n_draws=400)
    assert linked.p < 0.05 and linked.w > np.quantile(linked.null, 0.95)


def test_missing_columns_and_shapes_are_refused(cells):
    with pytest.raises(InputError, match="agrees"):
        marks({k: v for k, v in cells.items() if k != "agrees"}, 0.5)
    with pytest.raises(InputError, match="one shape"):
        marks(cells | {"top1": np.zeros(3)}, 0.5)
