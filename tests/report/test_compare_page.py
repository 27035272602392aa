"""The page of two studies: both verdicts, both intervals on one axis, nothing that a browser would have to fetch."""

import re
import xml.etree.ElementTree as ET

import pytest

from phaselens.cli import call
from phaselens.report.compare_page import comparison, intervals

BAD = "<script>alert(1)</script>"


def claim(name, verdict, estimate, interval, **more):
    row = {"id": name, "statement": f"Said {BAD}", "verdict": verdict, "estimate": estimate, "interval": interval}
    return row | {"null": 0.5, "decided_by": "interval", "why": "because", "needed": ""} | more


def found(*rows, declaration=()):
    return {"names": ["one", BAD], "claims": list(rows), "declaration": list(declaration)}


def beside(first, second, changed="", unlike=False):
    return {"id": "R1", "first": first, "second": second, "changed": changed, "unlike": unlike}


def test_both_sides_stand_on_the_page_and_nothing_is_fetched_or_run():
    one, other = claim("R1", "open", 0.7, (0.6, 0.8)), claim("R1", "rejected", 0.2, (0.1, 0.3))
    declared = {"field": "seed", "first": 0, "second": None}
    html = comparison(found(beside(one, other, "verdict"), beside(one, None, "only in one"), declaration=(declared,)))
    for said in ("0.7 [0.6, 0.8]", "0.2 [0.1, 0.3]", "rejected", "not judged", "One claim judged by both studies"):
        assert said in html
    assert "no of them with one verdict" not in html and "none of them" in html
    assert "not said" in html and "<script" not in html and "&lt;script&gt;" in html
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", html)


def test_marks_stand_where_the_numbers_are():
    drawn = intervals("x", [claim("R1", "open", 0.0, (-1.0, 1.0)), claim("R1", "open", 1.0, (0.0, 2.0))])
    dots = [e for e in ET.fromstring(str(drawn)).iter("circle")]
    assert [float(e.get("cx")) for e in dots] == sorted(float(e.get("cx")) for e in dots) and len(dots) == 2
    assert [e.get("class") for e in dots] == ["dot hue0", "dot hue1"]


@pytest.mark.parametrize("second", [None, claim("R1", "open", None, None)])
def test_a_side_without_an_estimate_is_left_out(second):
    drawn = intervals("x", [claim("R1", "open", 0.7, (0.6, 0.8)), second])
    assert len(list(ET.fromstring(str(drawn)).iter("circle"))) == 1
    assert intervals("x", [second, second]) == ""


def test_estimates_of_unlike_parts_share_no_axis():
    one = claim("V2", "open", 0.7, (0.6, 0.8))
    assert "<svg" in comparison(found(beside(one, one))).partition("<tbody>")[2]
    assert (
        "<svg"
        not in comparison(found(beside(one, one, "estimates of unlike parts", unlike=True))).partition("<tbody>")[2]
    )


def test_the_command_writes_the_page(tmp_path, capsys):
    from tests.report.synthetic_study import make_study

    folder = make_study(tmp_path / "study")
    page = tmp_path / "both.html"
    assert call(["compare", str(folder), str(folder), "--out", str(page)]) == 0
    assert f"page: {page}" in capsys.readouterr().out and "Verdicts side by side" in page.read_text()
    assert call(["compare", str(folder), str(folder), "--out", str(folder / "study.toml" / "x.html")]) == 2
