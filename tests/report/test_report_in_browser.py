"""The pages in a browser: nothing reaches beyond the window, on screens and on paper, with or without script."""

import json
import time

import pytest
from tests.report.synthetic_study import make_study
from tests.watch.browser import CHROMIUM, Browser

from phaselens.report import render
from phaselens.report.compare_page import comparison

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")]

# Elements that reach beyond the window, but for those inside something that scrolls.
BEYOND = """(() => {
  const width = document.documentElement.clientWidth, found = [];
  for (const one of document.querySelectorAll("body *")) {
    const box = one.getBoundingClientRect();
    if (!box.width || box.right <= width + 2) continue;
    let outer = one.parentElement, held = false;
    for (; outer && outer !== document.body; outer = outer.parentElement)
      held = held || getComputedStyle(outer).overflowX !== "visible";
    if (!held) found.push(one.tagName + "#" + one.id + "." + one.getAttribute("class") + " to " + Math.round(box.right)
      + " in " + (one.closest("section") || {}).id);
  }
  return JSON.stringify(found);
})()"""
LONG, ACROSS = 688, 1017  # what an A4 page holds between its margins, in CSS pixels: upright and across
LAID_ACROSS = ("in ledger", "in panel")  # sections whose pages lie across


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("browser") / "study")


def beyond(browser, page, width, **emulated):
    browser("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
    browser("Emulation.setEmulatedMedia", **emulated)
    browser("Page.navigate", url=page.as_uri())
    for _ in range(100):
        ready = browser("Runtime.evaluate", expression="document.readyState", returnByValue=True)["result"]["value"]
        if ready == "complete":
            break
        time.sleep(0.05)
    return json.loads(browser("Runtime.evaluate", expression=BEYOND, returnByValue=True)["result"]["value"])


def test_nothing_reaches_beyond_the_window(study, tmp_path):
    both = json.loads((study / "claims.json").read_text())
    rows = [{"id": c["id"], "first": c, "second": c, "changed": "", "unlike": False} for c in both]
    page = tmp_path / "compare.html"
    page.write_text(comparison({"names": ["one", "two"], "claims": rows, "declaration": []}), encoding="utf-8")
    with Browser(tmp_path / "profile") as browser:
        for file in (render(study), page):
            for width in (400, 1280):
                for scheme in ("light", "dark"):
                    features = [{"name": "prefers-color-scheme", "value": scheme}]
                    assert not beyond(browser, file, width, features=features), (file.name, width, scheme)
        assert not browser.errors


def test_paper_is_not_shrunk_by_something_too_broad(study, tmp_path):
    with Browser(tmp_path / "profile") as browser:
        page = render(study, paper=True)
        assert not beyond(browser, page, ACROSS, media="print")
        upright = beyond(browser, page, LONG, media="print")
        assert not [one for one in upright if not one.endswith(LAID_ACROSS)]


def test_without_script_the_page_says_the_same(study, tmp_path):
    asked = "[...document.querySelectorAll('main')].map(e => e.textContent).join('').replace(/\\\\s+/g, ' ').length"
    said = []
    for script in (True, False):
        with Browser(tmp_path / f"profile-{script}") as browser:
            browser("Emulation.setScriptExecutionDisabled", value=not script)
            beyond(browser, render(study), 1280)
            said.append(browser("Runtime.evaluate", expression=asked, returnByValue=True)["result"]["value"])
            drawn = "[...document.querySelectorAll('figure svg, table.ledger')]"
            high = f"{drawn}.map(e => e.getBoundingClientRect().height)"
            heights = browser("Runtime.evaluate", expression=high, returnByValue=True)["result"]["value"]
            assert sum(one > 50 for one in heights) > 5
    assert said[1] > 5000 and said[1] >= 0.98 * said[0]
