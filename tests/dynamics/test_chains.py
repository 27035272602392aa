"""Chains: counts against loops, exact permutation means, motifs and their nulls beside planted ones."""

from collections import Counter
from itertools import groupby, pairwise, permutations

import numpy as np
import pytest

from phaselens.dynamics import chains as chains_module
from phaselens.dynamics.chains import (
    by_run,
    collapse_runs,
    depth_chains,
    dwell_times,
    expected_counts,
    few_runs,
    first_order_surrogate,
    generation_chains,
    motif_counts,
    self_transition_excess,
    transition_counts,
    transition_matrix,
)
from phaselens.dynamics.motifs import first_order_shares, motif_null, motifs, sequential_motifs
from phaselens.errors import InputError, UnknownNameError
from phaselens.statistics.multiplicity import holm
from phaselens.statistics.resampling import bootstrap_weights


@pytest.fixture
def chains():
    g = np.random.default_rng(0)
    x = g.integers(0, 3, (4, 5, 9))
    x[1, 2, 3:5] = -1
    x[..., -1] = -1
    return x


def markov(g, p, n_chains, n):
    p = np.asarray(p)
    out = np.zeros((n_chains, n), int)
    out[:, 0] = g.integers(0, len(p), n_chains)
    for t in range(1, n):
        out[:, t] = (g.random(n_chains)[:, None] >= np.cumsum(p[out[:, t - 1]], axis=1)).sum(axis=1)
    return out


def test_depth_and_generation_are_two_chains():
    states = np.arange(24).reshape(2, 3, 4)
    assert depth_chains(states).shape == (2, 3, 3) and depth_chains(states)[0, 0].tolist() == [1, 2, 3]
    assert generation_chains(states).shape == (2, 4, 3) and generation_chains(states)[0, 1].tolist() == [1, 5, 9]


def test_counts_equal_a_loop(chains):
    counts = transition_counts(chains, 3)
    for index in np.ndindex(4, 5):
        pairs = Counter((a, b) for a, b in pairwise(chains[index].tolist()) if a >= 0 and b >= 0)
        assert all(counts[index][a, b] == pairs[a, b] for a in range(3) for b in range(3))
    assert transition_counts(chains[0, 0], 3).shape == (3, 3)


def test_rows_sum_to_one_or_are_undefined():
    p = transition_matrix(transition_counts(np.array([0, 1, 0, 0, 1, 2]), 3))
    assert p[0].tolist() == [1 / 3, 2 / 3, 0] and p[1].tolist() == [0.5, 0, 0.5] and np.isnan(p[2]).all()


def test_a_known_chain_is_found():
    p = [[0.9, 0.1, 0], [0.2, 0.5, 0.3], [0.5, 0, 0.5]]
    x = markov(np.random.default_rng(1), p, 400, 100)
    assert transition_matrix(transition_counts(x, 3).sum(axis=0)) == pytest.approx(np.array(p), abs=0.015)


def shuffled(chains, g):
    """Every chain in a random order of its own; gaps (below 0) stay where they are."""
    out = chains.copy()
    for row in out.reshape(-1, out.shape[-1]):
        row[row >= 0] = g.permutation(row[row >= 0])
    return out


def test_the_exact_mean_over_orders_is_that_of_permutations(chains):
    g = np.random.default_rng(4)
    drawn = np.array([transition_counts(shuffled(chains, g), 3).sum(axis=1) for _ in range(2000)])
    error = drawn.std(axis=0) / np.sqrt(2000)
    assert (np.abs(drawn.mean(axis=0) - expected_counts(chains, 3).sum(axis=1)) < 4.5 * error + 1e-9).all()
    assert drawn.shape == (2000, 4, 3, 3)


def test_a_state_is_transient_lasting_or_neither():
    g = np.random.default_rng(5)
    for stay, sign in ((0.05, -1), (1 / 3, 0), (0.7, 1)):
        x = markov(g, [[stay, (1 - stay) / 2, (1 - stay) / 2]] + [[1 / 3] * 3] * 2, 60, 72)
        draws = self_transition_excess(x, 0, 3, bootstrap_weights(60, g, n_boot=500))
        lo, hi = np.quantile(draws, [0.025, 0.975])
        assert (sign < 0 and hi < 0) or (sign > 0 and lo > 0) or (sign == 0 and lo < 0 < hi)
        assert lo < self_transition_excess(x, 0, 3) < hi
    assert np.isnan(self_transition_excess(np.ones((3, 9), int), 0, 3))


def test_runs_collapse(chains):
    found = collapse_runs(chains)
    for index in np.ndindex(4, 5):
        kept = [k for k, _ in groupby(chains[index].tolist())]
        kept = kept[1:] if kept[0] < 0 else kept
        assert found[index].tolist() == kept + [-1] * (9 - len(kept))


@pytest.mark.parametrize("length", [2, 3])
def test_motifs_equal_a_loop(chains, length):
    counts = motif_counts(chains, 3, length)
    for index in np.ndindex(4, 5):
        words = [k for k, _ in groupby(chains[index].tolist())]
        grams = Counter(w for w in zip(*(words[i:] for i in range(length)), strict=False) if min(w) >= 0)
        for i, n in enumerate(counts[index]):
            word = np.unravel_index(i, (3,) * length)
            assert grams[tuple(map(int, word))] == n
    assert motif_counts(np.zeros((2, 2), int), 3, 3).sum() == 0


def test_dwell_times_and_cut_visits():
    dwell = dwell_times(np.array([0, 0, 1, 1, 1, 0, 2, -1, 1, 0]), 3)
    assert dwell.counts[1, 3] == 1 and dwell.counts[0, 1] == 1 and dwell.counts.sum() == 2
    assert dwell.cut.tolist() == [2, 1, 1] and np.isnan(dwell.mean[2]) and dwell.mean[1] == 3
    x = markov(np.random.default_rng(6), [[0.6, 0.4], [0.4, 0.6]], 200, 200)
    assert dwell_times(x, 2).counts.sum(axis=0)[0, 1:4] == pytest.approx(
        dwell_times(x, 2).counts.sum(axis=0)[0].sum() * np.array([0.4, 0.24, 0.144]), rel=0.06
    )


def test_a_first_order_surrogate_explains_a_markov_chain_and_not_a_longer_memory():
    g = np.random.default_rng(7)
    x = collapse_runs(markov(g, [[0, 0.7, 0.3], [0.5, 0, 0.5], [0.6, 0.4, 0]], 60, 40))
    cycle = collapse_runs((np.arange(40) + g.integers(0, 3, (60, 1))) % 3)
    flips = np.array([[0, 1, 2, 1], [0, 1, 2, 1]])
    walk = np.tile(flips, (30, 10))  # 0 1 2 1 0 1 2 1: 1 goes on, it never turns back
    for chain, remembers in ((x, False), (cycle, False), (walk, True)):
        null = motif_counts(first_order_surrogate(chain, 3, g, n_draws=100), 3, 3).sum(axis=1)
        seen = motif_counts(chain, 3, 3).sum(axis=0)
        z = np.abs(seen - null.mean(axis=0)) / (null.std(axis=0) + 1)
        assert (z.max() > 6) == remembers
    again = first_order_surrogate(x, 3, g, n_draws=2)
    assert ((again < 0) == (x < 0)).all() and (again[..., 0] == x[:, 0]).all()


def prompts_of(g, n_prompts, n_chains, n, order=None):
    """Chains along depth: every prompt has its own states per place, chains follow it with some noise."""
    base = g.integers(0, 3, (n_prompts, 1, n)) if order is None else np.broadcast_to(order, (n_prompts, 1, n))
    noisy = g.random((n_prompts, n_chains, n)) < 0.3
    return np.where(noisy, g.integers(0, 3, (n_prompts, n_chains, n)), base)


def test_packed_counts_equal_the_plain_ones(chains):
    x = chains[[0, 2, 3]][:, :, :-1]
    observed, null = motif_null(x, 3, np.random.default_rng(8), null="order", n_permutations=30)
    plain = {n: motif_counts(x, 3, n).sum(axis=(0, 1)).reshape((3,) * n) for n in (2, 3)}
    assert observed.tolist() == [plain[len(w)][w] for w in motifs(3)] and null.shape == (30, 18)
    wide = np.random.default_rng(9).integers(0, 3, (2, 130, 6))  # more chains than one word of bits
    observed, _ = motif_null(wide, 3, np.random.default_rng(8), null="exchange", n_permutations=2)
    plain = motif_counts(wide, 3, 3).sum(axis=(0, 1)).reshape(3, 3, 3)
    assert observed[6:].tolist() == [plain[w] for w in motifs(3)[6:]]


def conserved_motifs(models, n_states, g, *, null, n_permutations):
    """All permutations of every motif in every model: nothing is stopped early."""
    return sequential_motifs(
        models,
        n_states,
        g,
        null=null,
        n_permutations=n_permutations,
        batch=n_permutations,
        exceedances=n_permutations + 1,
        level=1.0,
    )


def test_the_two_nulls_ask_two_things():
    g = np.random.default_rng(10)
    ordered = prompts_of(g, 12, 40, 9, order=np.repeat([0, 1, 2], 3))  # the same way through depth in every prompt
    found = {n: conserved_motifs([ordered], 3, g, null=n, n_permutations=400) for n in ("order", "exchange")}
    target = motifs(3).index((0, 1, 2))
    assert found["order"].p[target] < 0.01
    # each place keeps its states when prompts are exchanged, so this says nothing about what links the places
    assert found["exchange"].p[target] > 0.01


def test_linked_places_are_found_by_the_exchange():
    g = np.random.default_rng(11)
    start = g.integers(0, 3, (16, 1, 1))
    linked = np.broadcast_to((start + np.arange(8)) % 3, (16, 20, 8)).copy()  # every prompt cycles, phases differ
    found = conserved_motifs([linked], 3, g, null="exchange", n_permutations=400)
    assert found.p[motifs(3).index((0, 1, 2))] < 0.01 and found.p[motifs(3).index((0, 2, 1))] == 1


def test_first_order_shares_are_those_of_a_first_order_chain_and_miss_what_memory_adds():
    p = np.array([[0.0, 0.7, 0.3], [0.5, 0.0, 0.5], [0.2, 0.8, 0.0]])
    g = np.random.default_rng(0)
    chain = np.zeros((4, 50, 40), int)
    chain[..., 0] = g.integers(0, 3, (4, 50))
    for t in range(1, 40):
        chain[..., t] = (g.random((4, 50))[..., None] > p.cumsum(axis=1)[chain[..., t - 1]]).sum(axis=-1)
    counts = motif_counts(chain, 3, 3).sum(axis=(0, 1)).reshape(3, 3, 3)
    own = np.array([counts[w] / counts.sum() if len(w) == 3 else np.nan for w in motifs(3)])
    assert first_order_shares(chain, 3, np.random.default_rng(1)) == pytest.approx(own, abs=0.01, nan_ok=True)
    cycle = np.tile([0, 1, 2, 0, 2, 1], (4, 50, 7))  # after 0 1 always 2: a first-order chain goes back half the time
    at = motifs(3).index((0, 1, 0))
    shares = first_order_shares(cycle, 3, np.random.default_rng(1))
    assert motif_counts(cycle, 3, 3).reshape(-1, 3, 3, 3)[:, 0, 1, 0].sum() == 0 and shares[at] > 0.05
    assert np.isnan(first_order_shares(chain[..., :2], 3, np.random.default_rng(1))).all()


def test_one_model_without_the_motif_is_enough_to_break_conservation():
    g = np.random.default_rng(12)
    with_it = [prompts_of(g, 10, 30, 9, order=np.repeat([0, 1, 2], 3)) for _ in range(3)]
    target = motifs(3).index((0, 1, 2))
    all_ = conserved_motifs(with_it, 3, g, null="order", n_permutations=999)
    broken = conserved_motifs([*with_it, prompts_of(g, 10, 30, 9)], 3, g, null="order", n_permutations=999)
    assert holm(all_.p)[target] < 0.05 and holm(broken.p)[target] > 0.05
    assert (all_.by_model.max(axis=0) == all_.p).all()


def test_prompts_without_order_pass_at_the_level_and_free_chains_do_not():
    g = np.random.default_rng(13)
    together, alone = [], []
    for _ in range(40):
        x = prompts_of(g, 6, 30, 6)
        together.append(conserved_motifs([x], 3, g, null="order", n_permutations=99).p)
        # every chain its own prompt: tokens of one text as if they were independent
        alone.append(conserved_motifs([x.reshape(180, 1, 6)], 3, g, null="order", n_permutations=99).p)
    assert (np.array(together) <= 0.05).mean() < 0.08 and (np.array(alone) <= 0.05).mean() > 0.2


def test_wrong_chains_are_refused():
    with pytest.raises(InputError, match="-1..2"):
        transition_counts(np.array([0, 3]), 3)
    with pytest.raises(InputError, match="integer"):
        motif_counts(np.array([0.0, 1.0]), 3, 2)
    with pytest.raises(UnknownNameError, match="order"):
        motif_null(np.zeros((1, 1, 3), int), 3, np.random.default_rng(0), null="orders")
    with pytest.raises(InputError):
        sequential_motifs([], 3, np.random.default_rng(0), null="order")


def test_expected_counts_at_equal_place_are_the_mean_over_all_orders_within_places():
    chain, place = np.array([0, 1, 1, 0, 2, -1, 1, 0]), np.array([0, 1, 0, 1, 1, 0, 0, 1])
    total, n = np.zeros((3, 3)), 0
    at = [np.flatnonzero((place == p) & (chain >= 0)) for p in (0, 1)]
    for first in permutations(chain[at[0]]):
        for second in permutations(chain[at[1]]):
            moved = chain.copy()
            moved[at[0]], moved[at[1]] = first, second
            total += transition_counts(moved, 3)
            n += 1
    assert expected_counts(chain, 3, place) == pytest.approx(total / n)
    assert expected_counts(chain, 3, np.zeros(8, int)) == pytest.approx(expected_counts(chain, 3))


def test_a_state_of_word_starts_alone_is_transient_by_its_place_only():
    g = np.random.default_rng(0)
    place = np.tile([0, 1], 200)
    chains = np.where((place == 0) & (g.random((20, 400)) < 0.5), 1, 0)
    assert self_transition_excess(chains, 1, 2) < -0.2
    assert self_transition_excess(chains, 1, 2, place=place) == pytest.approx(0, abs=1e-9)


def test_counts_of_a_few_runs_at_a_time_are_those_of_all(monkeypatch):
    x = np.random.default_rng(6).integers(-1, 3, (11, 5, 9))
    for counted in (transition_counts, expected_counts):
        whole = counted(x, 3).sum(axis=1)
        for at_once in (1, 12, 10_000):
            monkeypatch.setattr(chains_module, "AT_ONCE", at_once)
            np.testing.assert_array_equal(by_run(counted, x, 3), whole)
            assert sum(len(some) for some in few_runs(x)) == 11
    assert by_run(transition_counts, x[:0], 3).shape == (0, 3, 3)
