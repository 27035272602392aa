"""The report in other forms: Markdown that shows hostile text as text, and figures that stand alone."""

import json
import struct
import sys
from xml.etree import ElementTree

import pytest
from synthetic_study import HOSTILE, make_study

from phaselens.cli import call
from phaselens.errors import InputError, MissingExtra
from phaselens.report import raster, render
from phaselens.report.figures import standalone, write_figures
from phaselens.report.markdown import write_markdown
from phaselens.report.written_values import marked


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("formats") / "study")


def test_markdown_has_ledger_tables_figures_and_methods(study):
    page, *figures = write_markdown(study)
    text = page.read_text()
    for heading in ("## Ledger", "## Figures", "## Methods"):
        assert f"\n{heading}\n" in text
    assert "What would change this verdict" in text and "| R1 | rejected |" in text
    assert len(figures) >= 8
    for figure in figures:
        assert f"(figures/{figure.name})" in text
    assert write_markdown(study)[0].read_text() == text


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text(text):
    shown = marked(text.replace("\ud800", "?"))
    assert "\n" not in shown
    for i, sign in enumerate(shown):
        if sign in "<>*`[]|_&":
            assert shown[i - 1] == "\\"


def test_figures_stand_alone_without_variables_scripts_or_links(study):
    files = write_figures(study)
    assert {"phase", "gd", "variance"} <= {f.stem for f in files}
    for file in files:
        text = file.read_text()
        root = ElementTree.fromstring(text)
        assert root.tag == "{http://www.w3.org/2000/svg}svg" and root.get("width") and root.get("height")
        assert "var(--" not in text and "<script" not in text and "http" not in text.replace("http://www.w3.org", "")
        assert root.find("{http://www.w3.org/2000/svg}style") is not None


def test_a_figure_holds_the_style_of_its_own_classes_only():
    text = standalone('<svg viewBox="0 0 10 5"><line class="axis"/></svg>')
    assert ".axis" in text and ".badge" not in text and 'width="30"' in text and 'viewBox="-10 -10 30 25"' in text


def test_a_png_has_the_size_and_the_words_of_its_figure():
    pytest.importorskip("resvg_py", reason="extra `report`")
    lone = '<svg viewBox="0 0 30 20"><text x="2" y="15" class="tick">{}</text></svg>'
    empty, word = (raster.png(standalone(lone.format(said)), 2.0) for said in ("", "word"))
    for picture in (empty, word):
        assert picture[:8] == b"\x89PNG\r\n\x1a\n"
        assert struct.unpack(">II", picture[16:24]) == (100, 80)
    assert word != empty and raster.png(standalone(lone.format("word")), 2.0) == word


def test_without_resvg_the_extra_is_named_and_nothing_is_written(study, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(MissingExtra, match=r"pip install 'phaselens\[report\]'"):
        write_figures(study, tmp_path / "none", png=True)
    assert not (tmp_path / "none").exists()


def test_without_a_font_no_figure_is_drawn(monkeypatch):
    resvg_py = pytest.importorskip("resvg_py", reason="extra `report`")
    whole = resvg_py.svg_to_bytes
    monkeypatch.setattr(resvg_py, "svg_to_bytes", lambda **asked: whole(skip_system_fonts=True, **asked))
    raster._require_font.cache_clear()
    with pytest.raises(InputError, match="no sans-serif font"):
        raster.png("<svg/>")
    raster._require_font.cache_clear()


def test_the_page_for_paper_is_open_and_without_script(study):
    text = render(study, paper=True).read_text()
    assert "<details open class=" in text and "<details class=" not in text
    assert "<script>" not in text and '<nav class="contents"' not in text
    usual = render(study).read_text()
    assert "<script>" in usual and "<details class=" in usual


def test_the_command_writes_every_form(study, capsys):
    assert call(["report", str(study), "--format", "md", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["report"].endswith("report.md") and len(found["figures"]) >= 8
    assert call(["report", str(study), "--figures"]) == 0
    assert "figures in" in capsys.readouterr().out
    assert call(["report", str(study), "--format", "pdf-ready", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"report": str(study / "report-print.html")}
    assert call(["report", str(study), "--format", "pdf"]) == 2
    assert call(["report", str(study / "nowhere"), "--format", "md"]) == 2
