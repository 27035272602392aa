"""The reducer: any cutting of a run gives the same rows, and what was not recorded or not finite is NaN."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from phaselens.errors import InputError, StateError
from phaselens.measure import reducer as measure
from phaselens.measure.reducer import LensSpec, Reducer
from phaselens.observables import DEFAULT, OBSERVABLES, by_name, evaluate, observable, statistics_from_logits
from phaselens.trace.tile import Tile
from phaselens.types import Readout

N_BLOCKS, WIDTH, VOCAB = 4, 16, 60
LAYERS = tuple(range(N_BLOCKS + 1))
PROMPTS, LENGTHS = (4, 1, 3), (10, 18, 1)
POSITIONS = 19
SHARED = (1, 4, 9, 16, 25, 36, 49)
LENSES = (
    LensSpec(),
    LensSpec("raw", label="raw"),
    LensSpec(temperature=2.0, label="tmatch"),
    LensSpec(tokens=SHARED, label="shared"),
)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def readout():
    return Readout(draw(VOCAB, WIDTH, seed=1), None, lambda h: 3 * h / h.norm(dim=-1, keepdim=True))


def whole_tile(hidden=None):
    """Three runs of unequal prompts and lengths, right-padded."""
    position = torch.arange(POSITIONS).expand(3, POSITIONS)
    step = position - (torch.tensor(PROMPTS)[:, None] - 1)
    valid = (step >= 0) & (step < torch.tensor(LENGTHS)[:, None])
    token = torch.randint(0, VOCAB, (3, POSITIONS), generator=torch.Generator().manual_seed(2))
    hidden = draw(3, N_BLOCKS + 1, POSITIONS, WIDTH) if hidden is None else hidden
    return Tile(torch.tensor([5, 2, 9]), step, position, torch.where(valid, token, -1), valid, LAYERS, hidden)


def cut(tile, start, stop, runs=slice(None)):
    labels = (getattr(tile, name)[runs, start:stop] for name in ("step", "position", "token", "valid"))
    return Tile(tile.run[runs], *labels, tile.layers, tile.hidden[runs, :, start:stop])


def pieces(tile, cuts, runs=slice(None)):
    edges = [0, *sorted(cuts), tile.step.shape[1]]
    return [cut(tile, a, b, runs) for a, b in zip(edges, edges[1:], strict=False) if b > a]


def rows_of(tiles, observables=OBSERVABLES, lenses=LENSES, layers=LAYERS, **settings):
    reducer = Reducer(observables, layers, readout(), lenses, N_BLOCKS, **settings)
    for tile in tiles:
        reducer.update(tile)
    return reducer.rows()


def assert_same_rows(found, wanted, tolerance=2e-5):
    for a, b in zip(found, wanted, strict=True):
        assert list(a) == list(b)
        for name in a:
            assert a[name].dtype == b[name].dtype
            # Arccos near 0 and pi magnifies the last digit of float32.
            loose = 1e-3 if "angle" in name or "instability" in name else tolerance
            np.testing.assert_allclose(a[name], b[name], rtol=loose, atol=loose, err_msg=name)


WHOLE = rows_of([whole_tile()])


@settings(max_examples=15, deadline=None)
@given(cuts=st.sets(st.integers(1, POSITIONS - 1)))
def test_chunks_of_any_size_give_the_same_rows(cuts):
    assert_same_rows(rows_of(pieces(whole_tile(), cuts)), WHOLE)


def test_live_equals_the_whole():
    """One position at a time, drained after every step, one row per run."""
    reducer = Reducer(OBSERVABLES, LAYERS, readout(), LENSES, N_BLOCKS)
    drained = []
    for tile in pieces(whole_tile(), range(1, POSITIONS)):
        reducer.update(tile)
        drained.append(reducer.rows())
        assert len(drained[-1][0]["run"]) == int(tile.valid.sum())
    for table in (0, 1):
        joined = {name: np.concatenate([d[table][name] for d in drained]) for name in WHOLE[table]}
        keys = [joined[k] for k in ("layer", "step", "run") if k in joined]
        order = np.lexsort(keys)
        assert_same_rows([{k: v[order] for k, v in joined.items()}], [WHOLE[table]])


def test_one_run_at_a_time_equals_the_batch():
    tiles = [t for run in range(3) for t in pieces(whole_tile(), {7, 12}, slice(run, run + 1))]
    assert_same_rows(rows_of(tiles), WHOLE)


def test_runs_may_end_or_change_places_between_chunks():
    tile = whole_tile()
    first, second = pieces(tile, {13})
    order = torch.tensor([1, 0])  # the third run is over
    labels = (getattr(second, name)[order] for name in ("step", "position", "token", "valid"))
    second = Tile(second.run[order], *labels, second.layers, second.hidden[order])
    assert_same_rows(rows_of([first, second]), WHOLE)


def test_a_chunk_that_does_not_follow_is_not_joined():
    """A gap in the steps, or a run never seen before, has no past."""
    tile = whole_tile()
    steps, layers = rows_of([cut(tile, 0, 8), cut(tile, 9, POSITIONS)], by_name(["step_length", "turning_angle"]), ())
    table = {(r, s): i for i, (r, s) in enumerate(zip(layers["run"][::5], layers["step"][::5], strict=True))}
    after = table[(5, 6)]  # run 5 has its step 0 at position 3; step 5 was left out
    assert (5, 5) not in table
    length, angle = layers["step_length"].reshape(-1, 5), layers["turning_angle"].reshape(-1, 5)
    assert np.isnan(length[after]).all() and np.isfinite(length[table[(5, 7)]]).all()
    assert np.isnan(angle[table[(5, 7)]]).all() and np.isfinite(angle[table[(5, 8)]]).all()


def test_rows_are_labelled_and_sorted():
    steps, layers = WHOLE
    wanted = sorted((run, s) for run, n in zip((5, 2, 9), LENGTHS, strict=True) for s in range(n))
    assert list(zip(steps["run"], steps["step"], strict=True)) == wanted
    first = {5: 3, 2: 0, 9: 2}
    assert all(p == first[r] + s for r, s, p in zip(steps["run"], steps["step"], steps["position"], strict=True))
    assert steps["finite"].all() and steps["finite"].dtype == bool
    assert (steps["token"] >= 0).all()
    assert list(layers["layer"]) == list(LAYERS) * len(wanted)
    assert (np.repeat(steps["run"], 5) == layers["run"]).all()
    measured = [v for name, v in (steps | layers).items() if v.dtype == np.float32]
    assert len(measured) > 50


def test_past_decides_what_is_defined():
    layers = WHOLE[1]
    for one in by_name(["step_length", "turning_angle", "log_rms"]):
        defined = np.isfinite(layers[one.name].reshape(-1, 5)).all(1)
        assert (defined == (layers["step"][::5] >= one.lookback)).all()


def test_values_are_those_of_the_observables_themselves():
    tile, (steps, layers) = whole_tile(), WHOLE
    inputs = {"layers": torch.tensor(LAYERS), "n_blocks": N_BLOCKS}
    names = by_name(["instability", "state_sync", "relative_step"])
    direct = evaluate(names, inputs | {"hidden": tile.hidden[1:2]})
    mine = layers["run"] == 2
    for one in names:
        wanted = direct[one.name][0, :, :18].T.reshape(-1)
        np.testing.assert_allclose(layers[one.name][mine], wanted, rtol=1e-4, atol=1e-5)
    for suffix, logits in (
        ("", readout().logits(tile.hidden[1])),
        ("__raw", readout().logits(tile.hidden[1], norm=False)),
        ("__tmatch", readout().logits(tile.hidden[1]) / 2),
    ):
        statistics = statistics_from_logits(logits[:, :18].transpose(0, 1).double(), tile.token[1, :18])
        values = evaluate(DEFAULT[13:], {n: v.transpose(0, 1) for n, v in statistics.items()} | inputs)
        for name in ("entropy", "rank", "kl_to_final", "lens_sync", "surprisal"):
            np.testing.assert_allclose(layers[name + suffix][mine], values[name].T.reshape(-1), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(steps["commit_layer" + suffix][steps["run"] == 2], values["commit_layer"])


def test_the_output_columns_are_layer_L_of_the_first_lens():
    steps, layers = WHOLE
    last = layers["layer"] == N_BLOCKS
    for name in ("entropy", "top1", "surprisal", "rank", "nucleus_size"):
        np.testing.assert_array_equal(steps[name], layers[name][last])
    # Comparisons between layers mean nothing at one layer.
    assert not {"agrees", "kl_to_final", "lens_sync"} & set(steps)


def test_output_without_a_plain_lens_is_read_on_its_own():
    steps, layers = rows_of([whole_tile()], lenses=(LensSpec("raw"),))
    for name in ("entropy", "surprisal", "commitment"):
        np.testing.assert_allclose(steps[name], WHOLE[0][name], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(layers["entropy"], WHOLE[1]["entropy__raw"], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(steps["commit_layer__raw"], WHOLE[0]["commit_layer__raw"])
    assert "commit_layer" not in steps
    only = rows_of([whole_tile()], lenses=(), output=True)
    np.testing.assert_allclose(only[0]["entropy"], WHOLE[0]["entropy"], rtol=1e-5, atol=1e-5)
    assert "entropy" not in only[1]


def test_restricted_lens_knows_its_own_tokens_only():
    steps, layers = WHOLE
    inside = np.isin(np.repeat(steps["token"], 5), SHARED)
    assert inside.any() and not inside.all()
    assert (np.isfinite(layers["rank__shared"]) == inside).all()
    assert np.nanmax(layers["rank__shared"]) < len(SHARED)
    assert (
        np.isfinite(layers["entropy__shared"]).all() and layers["entropy__shared"].max() <= math.log(len(SHARED)) + 1e-5
    )


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_states_that_are_not_finite_are_flagged_and_kept(bad):
    hidden = whole_tile().hidden.clone()
    hidden[0, 2, 3 + 4, 1] = bad  # step 4 of run 5, one number of one layer
    for cuts in (set(), {7}, {8}, set(range(1, POSITIONS))):
        steps, layers = rows_of(pieces(whole_tile(hidden), cuts))
        at = (steps["run"] == 5) & (steps["step"] == 4)
        assert (steps["finite"] == ~at).all()
        clean = [name for name in layers if layers[name].dtype == np.float32]
        for name in clean:
            values, reference = layers[name].reshape(-1, 5), WHOLE[1][name].reshape(-1, 5)
            assert np.isnan(values[at]).all(), name
            untouched = (steps["run"] != 5) | (steps["step"] < 4) | (steps["step"] > 6)
            np.testing.assert_allclose(values[untouched], reference[untouched], rtol=1e-3, atol=1e-3, err_msg=name)
        next_one = (steps["run"] == 5) & (steps["step"] == 5)
        assert np.isnan(layers["step_length"].reshape(-1, 5)[next_one, 2]).all()
        assert np.isfinite(layers["step_length"].reshape(-1, 5)[next_one, 1]).all()
        assert np.isfinite(layers["entropy"].reshape(-1, 5)[next_one]).all()
        assert np.isnan(steps["entropy"][at]).all()


def test_blocks_of_any_size_give_the_same_rows(monkeypatch):
    monkeypatch.setattr(measure, "BLOCK_BYTES", 1)
    long = torch.cat([whole_tile().hidden] * 3, 2)
    position = torch.arange(3 * POSITIONS).expand(3, -1)
    tile = Tile(torch.tensor([1, 2, 3]), position, position, position % VOCAB, position >= 0, LAYERS, long)
    small = rows_of([tile], lenses=())
    monkeypatch.undo()
    assert_same_rows(small, rows_of([tile], lenses=()))


def test_part_of_the_layers():
    tile = whole_tile()
    some = Tile(tile.run, tile.step, tile.position, tile.token, tile.valid, (1, 2, 4), tile.hidden[:, (1, 2, 4)])
    steps, layers = rows_of([some], layers=(1, 2, 4))
    for name in ("entropy", "step_length", "kl_to_final"):
        wanted = WHOLE[1][name].reshape(-1, 5)[:, (1, 2, 4)].reshape(-1)
        np.testing.assert_allclose(layers[name], wanted, rtol=1e-4, atol=1e-4)
    assert np.isnan(steps["commit_layer"]).all()
    assert np.isfinite(layers["lens_sync"].reshape(-1, 3)).all(0).tolist() == [True, False, False]


def test_columns_say_what_the_rows_hold():
    reducer = Reducer(OBSERVABLES, LAYERS, readout(), LENSES, N_BLOCKS)
    empty = reducer.rows()
    for table, held, labels in (
        ("steps", empty[0], ["run", "step", "position", "token", "finite"]),
        ("layers", empty[1], ["run", "step", "layer"]),
    ):
        names = [c.name for c in reducer.columns if c.table == table]
        assert list(held) == labels + names and len(set(names)) == len(names)
        assert all(len(v) == 0 for v in held.values())
    assert [v.dtype for v in empty[0].values()] == [v.dtype for v in WHOLE[0].values()]
    raw = next(c for c in reducer.columns if c.name == "entropy__raw")
    assert raw.lens.kind == "raw" and raw.observable.unit == "nat" and raw.table == "layers"


def test_rows_are_handed_over_once():
    reducer = Reducer(DEFAULT, LAYERS, readout(), (), N_BLOCKS)
    reducer.update(whole_tile())
    assert len(reducer.rows()[0]["run"]) == sum(LENGTHS)
    assert len(reducer.rows()[0]["run"]) == 0


def test_raw_geometry_is_a_setting():
    unit, raw = (rows_of([whole_tile()], lenses=(), normalisation=n)[1] for n in ("unit", "raw"))
    np.testing.assert_allclose(unit["relative_step"], raw["relative_step"], rtol=1e-4)
    assert not np.allclose(unit["step_length"], raw["step_length"], equal_nan=True)


def test_any_single_observable_can_be_asked_for():
    for one in OBSERVABLES:
        steps, layers = rows_of([whole_tile()], [one])
        assert one.name in (layers if one.per == "layer" else steps)


def test_what_cannot_be_measured_is_refused():
    @observable(axis="step", unit="1", lookback=None)
    def whole_run(hidden):
        """Something about the whole run."""
        return hidden[..., 0]

    @observable(axis="step", unit="1")
    def both(hidden, entropy_nats):
        """Something of both kinds."""
        return hidden[..., 0] + entropy_nats

    for wrong in (whole_run, both):
        with pytest.raises(InputError, match=wrong.__name__):
            Reducer([wrong.observable], LAYERS, readout(), (), N_BLOCKS)
    with pytest.raises(InputError, match="Record layer 4 too"):
        Reducer(DEFAULT, (0, 1, 2), readout(), LENSES, N_BLOCKS)
    with pytest.raises(InputError, match="all must differ"):
        Reducer(DEFAULT, LAYERS, readout(), (LensSpec(), LensSpec("raw")), N_BLOCKS)
    with pytest.raises(InputError, match="0..59"):
        Reducer(DEFAULT, LAYERS, readout(), (LensSpec(tokens=(60,)),), N_BLOCKS)
    with pytest.raises(StateError, match="as announced"):
        Reducer(DEFAULT, (0, 4), readout(), (), N_BLOCKS).update(whole_tile())


def test_no_observable_is_named_in_the_reducer():
    source = Path(measure.__file__).read_text(encoding="utf-8")
    assert not [o.name for o in OBSERVABLES if f'"{o.name}"' in source or f".{o.name}" in source]
