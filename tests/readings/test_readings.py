"""Examples, capture and analysis of readings: closed forms, a planted signal beside its null, and bad input."""

import json

import numpy as np
import pytest
import torch

from phaselens.errors import InputError, StudyFileError
from phaselens.models import record, run, untrained_twin
from phaselens.organisms import load, names
from phaselens.probes import fit_logistic
from phaselens.readings import (
    Columns,
    Example,
    Examples,
    Settings,
    analyse,
    capture_states,
    load_probes,
    read_examples,
    save_probes,
)
from phaselens.readings.analysis import exchanged, prepare
from phaselens.readings.examples import place, thinned

FAST = Settings((10.0,), 3, 3, n_boot=100, n_permutations=19)


@pytest.fixture(scope="module")
def model():
    return load(f"organism:{names()[0]}")


def rows(path, *given):
    path.write_text("".join(json.dumps(row) + "\n" for row in given))
    return path


# --- examples ---


def test_a_list_of_labels_is_one_example_per_word(tmp_path):
    found = read_examples(rows(tmp_path / "a.jsonl", {"text": "A dog  ran", "label": ["D", None, "V"]}))
    assert [(e.label, e.text[slice(*e.span)], e.kind) for e in found.items] == [
        ("D", "A", "a"),
        (None, "dog", "dog"),
        ("V", "ran", "ran"),
    ]
    assert len({e.group for e in found.items}) == 1


@pytest.mark.parametrize(
    ("row", "options", "says"),
    [
        ({"text": "a b", "label": ["x", "y", "z"]}, {}, "more labels (3) than words"),
        ({"text": "", "label": "x"}, {}, "no text"),
        ({"text": "abc", "label": "x", "s": 1, "e": 9}, {"span": ("s", "e")}, "does not lie in a text of length 3"),
        ({"text": "abc", "label": "x", "s": "one", "e": 2}, {"span": ("s", "e")}, "two whole numbers"),
        ({"text": "abc", "label": "x"}, {"group": "prompt"}, "unknown column 'prompt'"),
        ({"token_ids": [1, -2], "label": "x"}, {}, "token_ids"),
    ],
)
def test_a_wrong_row_is_said_with_its_line(tmp_path, row, options, says):
    with pytest.raises(StudyFileError, match="a.jsonl") as error:
        read_examples(rows(tmp_path / "a.jsonl", row), Columns(**options))
    assert says in str(error.value)


def test_a_span_that_is_no_whole_token_is_flagged_and_the_others_stay(model):
    text = "Notes\n- Ada lives in Milan."
    at = text.index("Ada")
    given = (
        Example(text, "x", "g", (at, at + 3)),
        Example(text, "y", "g", (at, at + 1)),
        Example(text, "z", "g"),
        Example("Ada " * 500, "long", "g"),
    )
    found, places = place(model, Examples("t", given))
    aligned = [item.label for item in found.items]
    assert aligned[0] == "x" and "z" in aligned and "long" not in aligned
    assert len(found.items) + len(found.flags) == 4
    piece = model.tokenizer.decode(places.ids[0][places.lo[0] : places.hi[0]])
    assert piece.strip() == "Ada"


def test_thinning_keeps_one_labelled_example_a_group():
    given = tuple(Example("a", None if i % 4 == 0 else "x", f"g{i // 4}") for i in range(20))
    found = thinned(Examples("t", given), np.random.default_rng(0))
    assert len(found) == 5 and len(set(found.groups)) == 5 and None not in found.labels


# --- capture ---


def test_states_are_those_of_one_plain_pass(model, tmp_path):
    ids = model.tokenizer.encode("Notes\n- The friend of Cara is Ben.")
    other = ids[:5]
    examples = Examples(
        "t",
        (
            Example("", "a", "1", (2, 5), token_ids=tuple(ids)),
            Example("", "b", "1", token_ids=tuple(ids)),
            Example("", "c", "2", (0, 2), token_ids=tuple(other)),
        ),
    )
    _, places = place(model, examples)
    for folder in (None, tmp_path):
        found = capture_states(model, places, folder=folder)
        with record(model, range(model.n_layers + 1)) as taps:
            logits = run(model.network, torch.tensor([ids])).logits[0]
            states = torch.stack([taps.states[i][0] for i in range(model.n_layers + 1)])
        np.testing.assert_allclose(np.stack(found.layers)[:, 0], states[:, 2:5].mean(1), atol=1e-4)
        np.testing.assert_allclose(np.stack(found.layers)[:, 1], states[:, -1], atol=1e-4)
        np.testing.assert_allclose(np.stack(found.layers)[:, 2], states[:, :2].mean(1), atol=1e-4)
        assert found.argmax[1] == int(logits[-1].argmax())
        assert found.max_softmax[1] == pytest.approx(float(torch.softmax(logits[-1], -1).max()), abs=1e-4)
        assert found.length.tolist() == [3, 1, 2]
        last = capture_states(model, places, pool="last", layers=(1,), folder=None)
        assert last.numbers == (1, model.n_layers)
        np.testing.assert_allclose(last.layers[0][0], states[1, 4], atol=1e-4)


# --- analysis ---


def planted(n=240, d=12, seed=0):
    draw = np.random.default_rng(seed)
    y = np.repeat(draw.integers(2, size=n // 2), 2)
    noise = draw.standard_normal((3, n, d)).astype(np.float32)
    noise[1, :, :4] += 1.2 * (y[:, None] - 0.5)
    noise[2, :, :4] += 0.6 * (y[:, None] - 0.5)
    groups, kinds = np.array([f"g{i // 2}" for i in range(n)]), np.array([f"k{i % 17}" for i in range(n)])
    return noise, np.array(["yes" if v else "no" for v in y], object), groups, kinds


def test_a_planted_signal_is_found_where_it_is_and_not_in_the_twin():
    X, y, groups, kinds = planted()
    null = np.random.default_rng(1).standard_normal(X.shape).astype(np.float32)
    found = analyse("t", X, y, groups, kinds=kinds, twin=null, covariates=null[:, :, :3], settings=FAST, disjoint=False)
    assert found.peak == 1 and found.curve.capacity[1] > 0.4 > abs(found.curve.capacity[0]) - 0.2
    assert found.p == pytest.approx(0.05) and max(found.twin.capacity) < 0.25
    assert all(interval.lo > 0 for interval in found.over.values())
    assert found.selectivity[1] > 0.1 and found.compression[1] > 1
    rows = {row["control"]: row for row in found.controls}
    assert rows["rotation"]["refit"] == pytest.approx(rows["identity"]["refit"], abs=0.01)
    assert rows["Gaussian, pooled"]["refit"] < 0.65 < rows["Gaussian, by class"]["refit"]
    assert len(rows) == 18


def test_without_a_signal_nothing_is_claimed():
    X, y, groups, _ = planted()
    X = np.random.default_rng(2).standard_normal(X.shape).astype(np.float32)
    found = analyse("t", X, y, groups, settings=Settings((10.0,), 3, 2, 100, 19, table=False, code=False))
    assert found.p > 0.05 and found.over["embedding (l = 0)"].lo < 0.2
    assert np.isnan(found.selectivity).all() and "no word types" in found.notes[0]


def test_labels_move_by_group_or_inside_it():
    draw = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 3)
    pure = np.repeat(draw.integers(2, size=20), 3)
    for row in exchanged(pure, groups, draw, 5):
        assert all(len(set(row[groups == g])) == 1 for g in range(20))
        assert row.sum() == pure.sum()
    mixed = np.tile([0, 1, 1], 20)
    for row in exchanged(mixed, groups, draw, 5):
        assert all(sorted(row[groups == g]) == [0, 1, 1] for g in range(20))
        assert (row != mixed).any()


def test_a_draw_that_leaves_a_train_split_with_one_class_is_drawn_again():
    codes, folds = np.array([1, 1] + [0] * 10), np.array([0, 1] + [0, 1] * 5)
    rows = exchanged(codes, np.arange(12), np.random.default_rng(0), 200, folds)
    assert all(row[folds == f].any() for row in rows for f in (0, 1))
    free = exchanged(codes, np.arange(12), np.random.default_rng(0), 200)
    assert not all(row[folds == f].any() for row in free for f in (0, 1))


def test_a_class_in_fewer_groups_than_folds_loses_its_labels():
    labels = np.array(["a"] * 6 + ["b"] * 6 + ["rare"], object)
    codes, classes, notes = prepare(labels, np.arange(13), 3)
    assert classes.tolist() == ["a", "b"] and codes[-1] == -1 and "'rare'" in notes[0]
    with pytest.raises(InputError, match="two classes"):
        prepare(labels[:6], np.arange(6), 3)


def test_own_folds_that_cut_a_group_and_nan_features_are_refused():
    X, y, groups, _ = planted()
    with pytest.raises(InputError, match="in both splits"):
        analyse("t", X, y, groups, folds=np.arange(len(y)) % 3, settings=FAST)
    X[0, 3] = np.nan
    with pytest.raises(InputError, match="NaN"):
        analyse("t", X, y, groups, settings=FAST)


def test_frozen_probes_come_back_from_their_file(tmp_path):
    X, y, _, _ = planted()
    probes = fit_logistic(torch.as_tensor(X), y, None, 10.0)
    again = load_probes(save_probes(tmp_path / "p.safetensors", probes, task="t"))
    assert (again.predict(torch.as_tensor(X)) == probes.predict(torch.as_tensor(X))).all()
    with pytest.raises(StudyFileError, match="cannot be read as probes"):
        load_probes(rows(tmp_path / "q.safetensors", {"a": 1}))


def test_the_untrained_twin_is_read_at_the_same_places(model):
    twin = untrained_twin(model, 3)
    _, places = place(model, Examples("t", (Example("Notes\n- Ada lives in Milan.", "a", "1"),)))
    ours, theirs = capture_states(model, places), capture_states(twin, places)
    assert ours.layers[0].shape == theirs.layers[0].shape
    assert not np.allclose(ours.layers[1], theirs.layers[1])
