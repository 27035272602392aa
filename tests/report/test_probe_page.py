"""The page of `phaselens probe`: what stands on it, what is marked as algebra, and foreign text as text."""

import math
import re

import pytest

from phaselens.probes.controls import CONTROLS
from phaselens.report.models_shown import Member
from phaselens.report.probe_page import page, sentence, write_page
from phaselens.report.probe_section import section


def document(name="truth", *, p=0.01, lo=0.1, transfer=True, layers=5):
    def row(i):
        value = 0.6 * math.exp(-(((i / 4) - 0.5) ** 2) / 0.1)
        return {
            "task": name,
            "layer": i,
            "depth": i / (layers - 1),
            "capacity": value,
            "lo": value - 0.1,
            "hi": value + 0.1,
            "accuracy": 0.5 + value / 2,
            "balanced": 0.5 + value / 2,
            "auroc": 0.5 + value / 2,
            "selectivity": None,
            "compression": 1 + value,
            "twin": 0.1,
            "covariates": 0.05 if i else None,
            "region": 0.54 < value,
        }

    controls = [
        {
            "control": c.name,
            "kind": c.kind,
            "unchanged": 0.8,
            "refit": 0.8 if c.on == "hidden" else None,
            "refit_lo": 0.7,
            "refit_hi": 0.9,
            "refit_expected": c.refit,
            "frozen": 0.5,
            "frozen_lo": 0.4,
            "frozen_hi": 0.6,
            "frozen_expected": c.frozen,
            "accuracy": 0.8,
            "capacity": 0.6,
            "bound": 0.61 if c.kind == "destroys" else None,
            "chance": 0.5,
            "n_draws": 20,
            "layer": 2,
        }
        for c in CONTROLS
    ]
    names = ["is", "was </td><script>", "will be"]
    return {
        "task": name,
        "classes": ["false", "true"],
        "labels_of": "world",
        "l2": 100.0,
        "majority": 0.5,
        "p": p,
        "n_labelled": 400,
        "n_groups": 200,
        "n_flagged": 1,
        "peak_layer": 2,
        "peak_depth": 0.5,
        "peak_lo": 0.25,
        "peak_hi": 0.75,
        "over": {"embedding (l = 0)": {"lo": lo, "hi": 0.4, "reason": ""}},
        "ranks": {"k": [1, 2, 4], "subspace": [0.6, 0.7, 0.8], "features": [0.5, 0.55, 0.6]},
        "transfer": {"families": names, "accuracy": [[0.8, 0.7, 0.5]] * 3, "majority": [0.5] * 3} if transfer else {},
        "notes": ["selectivity: no word types"],
        "flags": [{"place": "example 3", "reason": "not whole tokens"}],
        "layers": [row(i) for i in range(layers)],
        "controls": controls,
    }


def test_the_page_holds_every_part_and_marks_algebra(tmp_path):
    path = write_page(tmp_path, "tiny", [document(), document("pos", transfer=False)])
    text = path.read_text()
    assert path.name == "report.html" and (tmp_path / "report.md").is_file()
    assert text.count("<svg") == 2 * (2 + 1 + 2)  # wide and narrow: capacity and small figures twice, one matrix
    for c in CONTROLS:
        assert c.name in text
    marked = re.findall(r'<tr class="sanity"><th scope="row"><bdi>([^<]*)', text)
    assert marked == 2 * [c.name for c in CONTROLS if c.kind == "sanity"]
    assert text.count("is algebra and supports nothing") == 2
    assert "AUROC" in text and "MDL compression" in text and "accuracy by rank k" in text
    assert 'heading">selectivity' not in text  # no layer has one
    assert "untrained twin" in text and "covariates" in text and "l = 0" in text


def test_foreign_text_stays_text_and_nothing_is_fetched():
    text = page("<b>model</b>", [document()])
    assert "<script" not in text and "</td><script>" not in text
    assert "&lt;b&gt;model&lt;/b&gt;" in text
    assert not re.search(r"(href|src)=\"https?:", text)
    assert page("<b>model</b>", [document()]) == text


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, "supports the published conclusion that truth is linearly decodable"),
        ({"lo": -0.1}, "but not beyond embedding (l = 0)"),
        ({"p": 0.2}, "does not support that truth is linearly decodable here"),
        ({"p": None}, "does not support"),
    ],
)
def test_one_sentence_says_what_the_table_supports(changes, says):
    said = sentence(document(**changes))
    assert says in said and said.count(".") >= 1 and "is algebra" in said


def test_a_task_without_controls_ranks_or_baselines_still_has_its_page():
    bare = document(transfer=False, layers=2) | {"controls": []}
    bare["ranks"] = {"k": [1, 2], "subspace": [None, None], "features": [None, None]}
    for row in bare["layers"]:
        row |= {"twin": None, "covariates": None, "lo": None, "hi": None, "compression": None, "auroc": None}
    text = page("tiny", [bare | {"peak_lo": None, "peak_hi": None, "peak_layer": 1}])
    assert "the control table was not run" in text and "<svg" in text and "nan" not in text


# --- the section of a study ---


def test_the_section_of_a_study_draws_curves_and_transfer_and_says_the_agreement():
    members = [Member(m, False, m, i, m) for i, m in enumerate(("a", "b"))]
    capacity = [
        {"model": m, "task": t, "depth": d, "capacity": d / 2, "lo": d / 2 - 0.1, "hi": d / 2 + 0.1}
        for m in "ab"
        for t in ("pos", "truth")
        for d in (0.0, 0.5, 1.0)
    ]
    moved = [
        {"task": "pos", "source": s, "target": t, "accuracy": 0.7, "own": 0.9} for s, t in (("a", "b"), ("b", "a"))
    ]
    templates = [
        {"task": "truth", "model": m, "trained_on": x, "read_on": y, "accuracy": 0.8}
        for m in "ab"
        for x in ("is", "was")
        for y in ("is", "was")
    ]
    groups = [{"model": "a", "k": 2, "mantel": 0.31, "p_mantel": 0.04, "ari": math.nan, "p_ari": math.nan}] * 6
    found, said = section(members, capacity, moved, templates, groups)
    assert [f.id for f in found] == ["fig-probes", "fig-probe-models-pos", "fig-probe-templates-truth"]
    assert found[0].wide.count('class="curve') == 4 and found[1].wide.count('class="cell"') == 4
    assert "trained on a, read on a: 0.9" in found[1].wide and "trained on a, read on b: 0.7" in found[1].wide
    assert said == "Groups of 6 models by dynamics and by function, 2 each: Mantel r 0.31 (permutation p = 0.04)."
    assert section(members, [], [], [], []) == ([], "")
