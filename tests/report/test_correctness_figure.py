from xml.etree import ElementTree

from phaselens.report.correctness import NARROW, caption, chosen, forest, gains


def row(score, kind, auroc, gain_lo=float("nan"), model="m"):
    return {
        "model": model,
        "score": score,
        "kind": kind,
        "auroc": auroc,
        "lo": auroc - 0.05,
        "hi": auroc + 0.05,
        "gain_lo": gain_lo,
        "n_runs": 100,
        "n_wrong": 40,
    }


ROWS = [
    row("length", "baseline", 0.5),
    row("mean entropy", "baseline", 0.7),
    row("combined", "combined", 0.72, -0.01),
    row("mean <turbulence>", "dynamics", 0.8, 0.05),
    *(row(f"s{i}", "dynamics", 0.4 + i / 100, -0.2) for i in range(20)),
]


def test_baselines_are_all_shown_and_of_the_dynamics_the_best():
    shown = [r["score"] for r in chosen(ROWS)]
    assert shown[0] == "mean <turbulence>" and {"length", "mean entropy", "combined"} <= set(shown) and len(shown) == 11
    assert [gains(r) for r in ROWS[:4]] == [False, False, False, True]


def test_the_figure_is_whole_and_says_in_words_what_it_shows():
    for layout in ({}, {"layout": NARROW}):
        drawn = ElementTree.fromstring(str(forest("f", ROWS, **layout)))
        assert "mean <turbulence>: 0.8" in drawn.find("desc").text
    assert "1 of them add" in caption(ROWS) and "40 of 100 runs wrong" in caption(ROWS)
    assert "none of them adds to it" in caption([r for r in ROWS if not gains(r)])
