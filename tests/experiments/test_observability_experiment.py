"""O1 and O2: what states know beyond the output, beside curves, untrained twins and studies that lack the documents."""

from itertools import islice

import numpy as np
import pytest

from phaselens.claims import claims_by_id, judge_all
from phaselens.errors import InputError
from phaselens.experiments.observability import analyse_observability
from phaselens.models import load, untrained_twin
from phaselens.organisms import path
from phaselens.organisms.corpora import documents
from phaselens.organisms.world import build_world
from phaselens.readings.loss_probes import ROOM, START, documents_of, observability, places_in
from phaselens.validity.scenario_catalog import declared
from phaselens.validity.simulated_observability import of_curvature, of_scores

G = np.random.default_rng


def verdict(claim, panel):
    (found,) = judge_all(claims_by_id([claim]), analyse_observability(panel).evidence)
    return found


@pytest.mark.parametrize("scenario", declared("observability"), ids=lambda s: s.id)
def test_the_rules_say_what_they_must(scenario):
    words = [scenario.judge(scenario.make(G(i)))[scenario.claims[0]].verdict for i in range(2)]
    assert "rejected" not in words if scenario.kind == "effect" else "supported" not in words, words


def test_a_study_without_documents_leaves_o1_not_applicable_and_says_what_to_add():
    found = verdict("O1", of_curvature(G(0), slope=0.3))
    assert found.verdict == "not applicable" and "documents" in found.needed


def test_untrained_twins_that_know_as_much_explain_it_away_and_stand_in_the_table():
    panel = of_scores(G(3), beyond=0.4, before=0.4)
    assert verdict("O1", panel).decided_by == "untrained twin"
    rows = analyse_observability(panel).tables["observability"].to_pylist()
    assert [r["given"] for r in rows if r["model"] == "m0"][0] == "nothing" and len(rows) == 8
    assert all(abs(r["untrained"] - r["estimate"]) < 0.15 for r in rows)


def test_documents_are_read_by_titles_or_blank_lines(tmp_path):
    wiki, plain = tmp_path / "w.txt", tmp_path / "p.txt"
    body = "word " * 60
    wiki.write_text("".join(f" \n = Title {i} = \n \n {body}\n = = Part = = \n {body}" for i in range(12)))
    plain.write_text("\n\n".join([body] * 11 + ["short"]))
    assert len(documents_of(plain)) == 11 and len(documents_of(wiki)) >= 12
    plain.write_text(body)
    with pytest.raises(InputError, match="10 are needed"):
        documents_of(plain)
    with pytest.raises(InputError, match="cannot be read"):
        documents_of(tmp_path / "none.txt")


def test_a_document_is_read_in_as_many_windows_as_its_share_needs():
    model = load(path("llama-512"))
    room = min(ROOM, model.context - 1)
    texts = ["Notes\n" + "- Vic knows Wanda.\n" * 150] * 12
    for share, windows in ((20, 1), (room + 40, 2)):
        places, following, document = places_in(model, texts, 12 * share, seed=0)
        assert (np.bincount(document) == share).all() and len(set(places.ids)) == windows
        assert min(places.lo) >= START and all(len(ids) <= room for ids in places.ids)
        assert all(ids[p + 1] == token for ids, p, token in zip(places.ids, places.lo, following, strict=True))


@pytest.mark.slow
def test_scores_of_a_model_are_of_held_out_documents_and_shuffled_losses_give_none():
    model = load(path("llama-512"))
    texts = [document.text for document in islice(documents(build_world(), 5, 40), 40)]
    found = observability(model, untrained_twin(model, 1), texts, tokens=600, seed=0)
    n = len(found["loss"])
    assert found["score"].shape == (n,) and found["shuffled"].shape[1] == n and (found["loss"] >= 0).all()
    assert found["covariates"].shape == (n, 5) and len(found["layer"]) == 5
    r = np.corrcoef(found["score"], found["loss"])[0, 1]
    null = [np.corrcoef(s, found["loss"])[0, 1] for s in found["shuffled"]]
    assert r > max(null) and abs(np.mean(null)) < 0.1
    again = observability(model, untrained_twin(model, 1), texts, tokens=600, seed=0)
    assert np.array_equal(found["score"], again["score"])
