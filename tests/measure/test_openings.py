"""Cosine to the twins of a minimal pair: closed forms on states that are set by hand, and the column it makes."""

import numpy as np
import pytest
import torch

import tiny_panel
from phaselens import load, observe
from phaselens.batteries import MinimalPair
from phaselens.capture import generate, replay
from phaselens.measure.openings import Openings, with_cosines
from phaselens.trace.tile import Tile
from phaselens.trace.transcripts import Transcript


def said(*ids):
    return [Transcript(run, (1, 2), (3, 4), prompt_id=name) for run, name in enumerate(ids)]


def tile(states, layers=(2, 3)):
    """Step 0 at the second of two positions of every run, its state at layer 3 as given."""
    n, width = states.shape
    hidden = torch.full((n, 2, 2, width), 9.0)
    hidden[:, 1, 1] = torch.as_tensor(states, dtype=torch.float32)
    step = torch.tensor([[-1, 0]]).repeat(n, 1)
    return Tile(torch.arange(n), step, step + 1, step, step >= 0, layers, hidden)


PAIR = ("x/ambiguous", "x/first", "x/second")


def test_an_ambiguous_state_half_way_between_orthogonal_twins():
    openings = Openings(said(*PAIR), 3)
    openings.update(tile(np.array([[1.0, 1.0], [5.0, 0.0], [0.0, 0.1]])))
    found = openings.cosines()
    assert found[0] == pytest.approx(np.sqrt(0.5)) and found[1] == found[2] == pytest.approx(0.0)


def test_one_state_for_all_three_gives_no_difference_and_an_opposite_one_the_most():
    for states, difference in (([[1.0, 2.0]] * 3, 0.0), ([[-1.0, -2.0], [1.0, 2.0], [1.0, 2.0]], -2.0)):
        openings = Openings(said(*PAIR), 3)
        openings.update(tile(np.array(states)))
        found = openings.cosines()
        assert found[0] - (found[1] + found[2]) / 2 == pytest.approx(difference)


def test_undefined_where_a_reading_is_missing_a_state_is_zero_or_the_layer_was_not_seen():
    two = Openings(said(*PAIR[:2]), 3)
    two.update(tile(np.ones((2, 2))))
    zero = Openings(said(*PAIR), 3)
    zero.update(tile(np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 0.0]])))
    other = Openings(said(*PAIR), 7)
    other.update(tile(np.ones((3, 2))))
    assert np.isnan([two.cosines()[0], zero.cosines()[0], other.cosines()[0]]).all()
    assert zero.cosines()[1] == pytest.approx(1.0)


def test_runs_that_are_of_no_pair_are_passed_over():
    assert not Openings(said("p0001", "factual/one", "ambiguous"), 3)


def test_the_column_is_that_of_the_states_and_only_pairs_have_it(tmp_path):
    model = load(tiny_panel.save_model(tmp_path / "tiny", context=160))
    pair = MinimalPair("x", "a b c", "a b d", "a b e", ("c", "d"))
    runs = generate(model, list(pair.prompts()), max_new_tokens=3)
    trace = observe(model, runs, observables=["instability"], chunk=2)
    kept, layer = {}, round(0.75 * model.n_layers)
    replay(model, runs, _Nothing(), keep_hidden=kept)
    a, b, c = (kept[f"run{r}"][0, layer].astype(float) for r in range(3))
    cosine = [float(x @ y / np.linalg.norm(x) / np.linalg.norm(y)) for x, y in ((a, b), (a, c), (b, c))]
    want = [(cosine[0] + cosine[1]) / 2, cosine[2], cosine[2]]
    assert trace.numpy("runs")["twin_cosine"] == pytest.approx(want, abs=1e-5)
    trace.validate()
    assert "twin_cosine" in [c.name for c in trace.columns("runs")]
    plain = observe(model, generate(model, ["a b c"], max_new_tokens=3), observables=["instability"])
    assert "twin_cosine" not in plain.runs.column_names
    assert np.isnan(with_cosines(plain, {}).numpy("runs")["twin_cosine"]).all()


class _Nothing:
    def update(self, tile):
        pass

    def rows(self):
        return {}, {}
