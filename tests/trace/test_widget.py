"""One run as a widget: what it is given, what it says of what is not there, and how a browser draws it."""

import json

import pytest
from tests.view.simulated import EVIL, simulated
from tests.watch.browser import CHROMIUM, Browser

from phaselens.errors import InputError, UnknownNameError
from phaselens.scripts import script, source
from phaselens.trace.widget import SCRIPTS, payload


@pytest.fixture(scope="module")
def trace():
    return simulated(4, n_steps=12, n_layers=3)[0]


def test_the_widget_holds_one_run_as_the_trace_does(trace):
    anywidget = pytest.importorskip("anywidget", reason="anywidget is not installed (extra notebook)")
    made = trace.view(run=2, observable="entropy")
    assert isinstance(made, anywidget.AnyWidget)
    cells = trace.numpy("layers")
    own = cells["entropy"][cells["run"] == 2].reshape(12, 3)
    assert made.data["cells"]["entropy"][5] == pytest.approx(own[5].tolist(), rel=1e-5)
    assert made.data["cells"]["instability"][0] == [None] * 3 and made.data["layers"] == [0, 1, 2]
    assert made.data["shown"] == "entropy" and json.dumps(made.data)


def test_what_is_not_there_is_said(trace):
    with pytest.raises(InputError, match="no run 9"):
        payload(trace, 9, "entropy")
    with pytest.raises(UnknownNameError, match="entropy"):
        payload(trace, 0, "entropi")


def test_without_the_extra_there_is_a_still_picture_that_says_so(trace, monkeypatch):
    monkeypatch.setattr("phaselens.trace.widget._kind", lambda: None)
    html = trace.view(run=3)._repr_html_()
    assert "phaselens[notebook]" in html and "instability" in html and EVIL not in html


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium: the widget is looked at in a real browser")
def test_the_widget_draws_and_follows_the_keys(trace, tmp_path):
    data = json.dumps(payload(trace, 1, "entropy")).replace("<", "\\u003c")
    code = script(*SCRIPTS).replace("export default { render };", "")
    start = f"const data = {data}; render({{ model: {{ get: () => data }}, el: document.body }});"
    page = f"<!doctype html><style>{source('widget.css')}</style><body><script type=module>{code}{start}</script>"
    (tmp_path / "w.html").write_text(page)
    with Browser(tmp_path / "profile") as browser:
        browser.size(900, 700)
        browser.open((tmp_path / "w.html").as_uri())
        browser.until("document.querySelector('.here')?.textContent.startsWith('step 0, layer 2: entropy')")
        browser.js("document.querySelector('[role=img]').focus()")
        browser.press("ArrowRight", 39)
        browser.press("ArrowDown", 40)
        browser.until("document.querySelector('.here').textContent.startsWith('step 1, layer 1: entropy')")
        assert browser.js("document.querySelectorAll('.token').length") == 12
        assert browser.js("document.querySelectorAll('img, .text script').length") == 0 and EVIL
        assert browser.errors == []
