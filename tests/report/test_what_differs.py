"""What differs opens the page of a small panel: findings that stand, words where none does, no other page's head."""

import pyarrow.parquet as pq
import pytest
from synthetic_study import NAN, TRAINED, make_study, put

from phaselens.report import render, verdict_prose
from phaselens.report.differences import fate, standing
from phaselens.report.markdown import write_markdown
from phaselens.report.study_files import TABLES

A, B, C = (name for name, *_ in TRAINED[:3])
COMPARED = (  # observable, place, depth, effect, what the twins differ by
    ("instability", "depth", 0.5, 9.0, -0.1),
    ("step_length", "depth", 0.5, 8.0, 0.1),
    ("step_length", "depth", 0.75, 7.0, 0.1),
    ("coherence", "depth", 0.5, 6.0, 0.1),
    ("entropy", "output", 1.0, 5.0, 0.0),
)
SURE = {"lo": 0.8, "hi": 1.2, "p": 0.01, "before": "no", "noise_floor": NAN}


def difference(rank, observable, place, depth, effect, twins, first=A, second=B, **other):
    row = {"first": first, "second": second, "rank": rank, "observable": observable, "place": place, "depth": depth}
    row |= {"category": "all", "first_mean": 2.0, "second_mean": 1.0, "difference": 1.0, "effect": effect}
    row |= {"n_units": 12, "untrained": twins, "untrained_lo": twins - 0.1, "untrained_hi": twins + 0.1}
    return row | SURE | {"reason": ""} | other


def study(folder, models=2, **other):
    """A study of so many trained models, of whose first ones every pair differs alike."""
    folder = make_study(folder)
    kept = {name for name, *_ in TRAINED[:models]} | {f"{name}:untrained" for name, *_ in TRAINED[:models]}
    for table in (t for t in TABLES if (folder / f"results/{t}.parquet").is_file()):
        rows = pq.read_table(folder / f"results/{table}.parquet").to_pylist()
        own = [row for row in rows if row.get("model", A) in kept]
        if own and "model" in own[0]:
            put(folder, table, own)
    pairs = [(A, B)] if models == 2 else [(A, B), (A, C), (B, C)]
    rows = [difference(k, *one, *pair, **other) for pair in pairs for k, one in enumerate(COMPARED, 1)]
    put(folder, "differences", rows)
    curve = {"value": 1.0, "lo": 0.9, "hi": 1.1, "n_units": 12}
    shown = dict.fromkeys(one[0] for one in COMPARED[:4])
    at = (
        {"first": a, "second": b, "observable": o, "depth": d} for a, b in pairs for o in shown for d in (0.0, 0.5, 1)
    )
    put(folder, "differences_curve", [row | curve for row in at])
    return folder


def order(html):
    """Anchors of the sections as they stand, and as the contents say."""
    sections = [part.split('"', 1)[0] for part in html.split('<section id="')[1:]]
    contents = [part.split('"', 1)[0] for part in html.split('<li><a href="#')[1:]]
    return sections, contents[: len(sections)]


@pytest.mark.parametrize(("models", "first"), [(2, "differences"), (3, "differences"), (5, "summary")])
def test_it_opens_the_page_of_two_or_three_models_and_no_larger_one(tmp_path, models, first):
    html = render(study(tmp_path / "s", models)).read_text(encoding="utf-8")
    sections, contents = order(html)
    assert sections == contents and sections[0] == first
    assert sections.index("summary") < sections.index("ledger") < sections.index("panel")
    assert html.count('<div class="first">') == 1  # one row of findings: of the differences, else of the claims
    assert ('class="finding plain"' in html) == (first == "differences")
    assert html.count('class="finding ') == 3


def test_findings_stand_with_interval_effect_twins_and_floor_and_the_figure_shows_them(tmp_path):
    folder = study(tmp_path / "s", noise_floor=0.02)
    html = render(folder).read_text(encoding="utf-8")
    head = html[: html.index('<section id="summary"')]
    assert "differ in 5 of 5 comparisons" in head and "twelve prompts" in head
    for said in ("Difference 1.00 [0.80, 1.20], 9 SD over twelve prompts", "the other way", "Noise floor 0.02"):
        assert said in head
    cards = [part.split("</bdi>", 1)[0] for part in head.split('<p><a href="#def-')[1:]]
    assert [card.partition("<bdi>")[2] for card in cards] == ["instability", "coherence", "entropy"]  # unlike kinds
    drawn = head[head.index('id="fig-differences"') :]
    assert drawn.index("instability") < drawn.index("coherence") and "organism:opt" in head
    page = write_markdown(folder)[0].read_text(encoding="utf-8")
    assert page.index("## What differs") < page.index("instability l/L = 0.5: 2 in gpt2") < page.index("## Ledger")


def test_where_no_difference_survives_the_page_says_so_and_the_claims_stand_first(tmp_path):
    html = render(study(tmp_path / "s", before="yes")).read_text(encoding="utf-8")
    head = html[: html.index('<section id="summary"')]
    assert "No difference between gpt2 and opt survives its controls: of 5 comparisons" in head
    assert "5 are the untrained twins" in head and 'class="finding' not in head
    assert 'class="finding' in html[len(head) :]
    alone = render(study(tmp_path / "t", before="", untrained=NAN)).read_text(encoding="utf-8")
    assert "for want of untrained twins" in alone and "not measured, or it is undefined" in alone


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({}, ""),
        ({"lo": -0.1}, "chance"),
        ({"p": 0.05}, "chance"),
        ({"lo": NAN, "hi": NAN}, "chance"),
        ({"noise_floor": 1.0}, "floor"),
        ({"noise_floor": 0.5}, ""),
        ({"before": "yes"}, "twins"),
        ({"before": ""}, ""),
    ],
)
def test_each_control_alone_takes_a_difference_away(other, why):
    row = difference(1, *COMPARED[0], **other)
    assert fate(row) == why and standing([row], 3) == ([] if why else [row])


def test_known_controls_come_before_unknown_ones():
    rows = [difference(1, *COMPARED[0], untrained=NAN, before=""), difference(2, *COMPARED[1])]
    assert [r["observable"] for r in standing(rows, 2)] == ["step_length", "instability"]


def claim(name, verdict, estimate=0.5):
    return {"id": name, "statement": name, "verdict": verdict, "estimate": estimate, "interval": [0.4, 0.6], "null": 0}


def test_what_matters_first_is_supported_then_rejected_then_open_in_the_order_of_the_register():
    found = [
        ("A", "rejected"),
        ("B", "rejected"),
        ("C", "open"),
        ("D", "rejected"),
        ("E", "supported"),
        ("F", "not applicable"),
    ]
    entries = verdict_prose.ledger([claim(*one) for one in found])
    assert [e.id for e in verdict_prose.matter(entries)] == ["E", "A", "B"]
    entries = verdict_prose.ledger([claim(n, v) for n, v in found if v != "supported"])
    assert [e.id for e in verdict_prose.matter(entries)] == ["A", "B", "D"]
    late = claim("L", "supported") | {"post_hoc": True}
    entries = verdict_prose.ledger([claim("N", "open", None), claim("O", "open"), late])
    assert [e.id for e in verdict_prose.matter(entries)] == ["O", "N"]
