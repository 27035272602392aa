"""The page of stored runs in a real browser: keys, filters, hostile texts, 100,000 runs, and what it keeps."""

import os
import threading
import time

import pytest
from tests.view.simulated import EVIL, observed, studied
from tests.watch.browser import CHROMIUM, Browser

from phaselens.view.one_run import Reader
from phaselens.view.page_file import keep
from phaselens.view.run_table import Runs
from phaselens.view.stored_traces import shelf
from phaselens.web.server import Server

pytest.importorskip("uvicorn", reason="uvicorn is not installed (extra watch)")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium: the page is looked at in a real browser"),
]


class Serving:
    """A folder served in a thread."""

    def __init__(self, *folders):
        from phaselens.view.app import make_app

        self.server = Server()
        self._uvicorn = self.server.uvicorn(make_app(Reader(Runs(shelf(folders))), self.server.door))
        self._thread = threading.Thread(target=lambda: self._uvicorn.run(sockets=[self.server.socket]))

    def __enter__(self):
        self._thread.start()
        return self.server.url

    def __exit__(self, *error):
        self._uvicorn.should_exit = True
        self._thread.join(20)
        self.server.socket.close()


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with Serving(studied(tmp_path_factory.mktemp("study"), 3, 40)) as found:
        yield found


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


def opened(browser, url, state="", width=1280, view="runs"):
    browser.size(width, 900)
    browser.open("about:blank")
    browser.open(f"{url}#{state}")
    browser.until(f"document.body && document.body.dataset.drawn === '{view}'")


def chosen(browser, select, value):
    where = f"document.getElementById('{select}')"
    browser.js(f"{where}.value = '{value}'; {where}.dispatchEvent(new Event('change'))")


COUNT = "document.getElementById('count').textContent"
STATE = "Object.fromEntries(new URLSearchParams(location.hash.slice(1)))"


def test_runs_are_searched_filtered_sorted_and_opened_by_keyboard(browser, url):
    opened(browser, url)
    assert browser.js(COUNT) == "120 runs"
    browser.press("/", 191)
    browser.until("document.activeElement.id === 'q'")
    browser.type("needle7")
    browser.until(f"{COUNT} === '11 of 120 runs'")
    browser.js("document.getElementById('clear').click()")
    browser.until(f"{COUNT} === '120 runs'")
    chosen(browser, "facet-model", "other")
    browser.until(f"{COUNT} === '40 of 120 runs'")
    chosen(browser, "add", "entropy")
    browser.until("[...document.querySelectorAll('#table th')].some((h) => h.textContent.startsWith('entropy'))")
    sort = "[...document.querySelectorAll('#table thead button')].find((b) => b.textContent.startsWith('entropy'))"
    for mark in ("↑", "↓"):
        browser.js(f"{sort}.click()")
        browser.until(f"{sort}.textContent.endsWith('{mark}')")
    assert browser.js("document.querySelector('#table tbody th').textContent") == "79"
    browser.js("document.activeElement.blur()")
    browser.press("ArrowDown", 40)
    browser.press("ArrowDown", 40)
    assert browser.js("document.activeElement.textContent") == "78"
    browser.js("document.activeElement.click()")
    browser.until("document.body.dataset.drawn === 'one'")
    assert browser.js(STATE)["run"] == "78"
    browser.press("n", 78)
    browser.until(f"({STATE}).run === '77'")
    browser.js("history.back()")
    browser.until(f"({STATE}).run === '78'")
    assert browser.errors == []


def test_one_run_follows_one_cursor_in_text_map_and_cell(browser, url):
    opened(browser, url, "view=one&run=50", view="one")
    current = "document.querySelector('#one-text [aria-current]')?.dataset.step"
    assert browser.js(current) == "2", "where instability is first defined"
    browser.press("ArrowRight", 39)
    browser.press("ArrowRight", 39)
    browser.until(f"{current} === '4'")
    browser.press("ArrowDown", 40)
    browser.until("document.getElementById('cell-name').textContent === 'Step 4, layer 0'")
    browser.until("document.querySelectorAll('#cell-values tr').length > 6")
    assert "layer 0: instability" in browser.js("document.getElementById('spoken').textContent")
    label = browser.js("document.getElementById('one-map').getAttribute('aria-label')")
    assert label.startswith("instability of run 50, 3 layers by 8 steps, from ")
    pen = "document.getElementById('one-map').getContext('2d')"
    assert browser.js(f"[...{pen}.getImageData(60, 20, 40, 20).data].some((v) => v > 0)")
    browser.press("m", 77)
    browser.until("document.getElementById('one-map').getAttribute('aria-label').startsWith('entropy of')")
    assert browser.js(STATE) == {"view": "one", "run": "50", "step": "4", "layer": "0", "shown": "entropy"}
    assert browser.errors == []


@pytest.mark.parametrize(("n_layers", "record"), [(6, 4), (10, 8), (18, 14), (28, 21)])
def test_a_run_opens_at_the_layer_of_record(browser, tmp_path, n_layers, record):
    with Serving(observed(tmp_path / "one", 1, n_layers=n_layers + 1)) as url:
        opened(browser, url, "view=one&run=0", view="one")
        assert browser.js("document.getElementById('record').textContent") == str(record) == str(round(0.75 * n_layers))


def test_two_runs_are_there_before_any_is_chosen(browser, url):
    opened(browser, url, "view=two", view="two")
    facts = browser.js("[...document.querySelectorAll('#two .facts')].map((one) => one.textContent)")
    assert len(facts) == 2 and not any("Choose" in one for one in facts) and facts[0] != facts[1]


def test_two_runs_stand_on_one_cursor_with_their_difference(browser, url):
    opened(browser, url)
    browser.js("document.querySelector('#table tbody a').focus()")
    browser.press("x", 88)
    browser.until("document.querySelectorAll('tr.marked').length === 1")
    browser.js("document.querySelectorAll('#table tbody a')[3].focus()")
    browser.press("x", 88)
    browser.until("document.body.dataset.drawn === 'two'")
    assert {k: v for k, v in browser.js(STATE).items() if k != "mark"} == {"view": "two", "run": "0", "other": "3"}
    browser.until("!document.getElementById('difference').hidden")
    assert browser.js("document.getElementById('difference-what').textContent") == "cell by cell"
    browser.press("ArrowRight", 39)
    browser.until("document.getElementById('two-cursor').textContent.startsWith('Step 3. ')")
    assert browser.js("document.querySelectorAll('#two [aria-current]').length") == 2


def test_many_runs_lead_back_to_their_list(browser, url):
    opened(browser, url, "view=many&by=model", view="many")
    assert browser.js("document.querySelectorAll('#groups li').length") == 2
    browser.press("ArrowRight", 39)
    browser.until("new URLSearchParams(location.hash.slice(1)).get('bin') === '0'")
    browser.press("Enter", 13)
    browser.until("document.body.dataset.drawn === 'runs'")
    state = browser.js(STATE)
    assert state["columns"] == "layers.entropy@0" and state["sort"] == "-layers.entropy@0"
    assert browser.errors == []


def test_hostile_text_stays_text_everywhere(browser, tmp_path):
    folder = observed(tmp_path / "hostile", 6, model=EVIL)
    with Serving(folder) as url:
        opened(browser, url)
        assert EVIL[:20] in browser.js("document.querySelectorAll('#table tbody tr')[3].textContent")
        opened(browser, url, "view=one&run=3&shown=%3Cb%3E", view="one")
        assert EVIL in browser.js("document.getElementById('one-name').textContent")
        opened(browser, url, "view=two&run=3&other=1", view="two")
        opened(browser, url, "view=many&by=model", view="many")
        assert browser.js("document.querySelectorAll('img, main script, b:not(.curve b)').length") == 0
    page = keep(Reader(Runs(shelf([folder]))), [3, 4], tmp_path / "kept.html")
    opened(browser, page.as_uri(), "view=one&run=3", view="one")
    assert EVIL in browser.js("document.getElementById('one-name').textContent")
    browser.press("ArrowRight", 39)
    browser.until("document.querySelectorAll('#cell-values tr').length > 6")
    opened(browser, page.as_uri())
    assert browser.js(COUNT) == "2 runs"
    assert browser.js("document.querySelectorAll('img, main script').length") == 0 and browser.errors == []


@pytest.mark.parametrize("kind", ["svg", "png", "csv"])
def test_what_is_seen_can_be_kept(browser, url, kind):
    opened(browser, url, "view=one&run=3", view="one")
    browser.js("delete document.body.dataset.saved")
    browser.press({"svg": "s", "png": "g", "csv": "e"}[kind], ord({"svg": "S", "png": "G", "csv": "E"}[kind]))
    browser.until("document.body.dataset.saved")
    name, size = browser.js("document.body.dataset.saved").split()
    assert name == f"phaselens-one-3.{kind}" and int(size) > 400
    assert browser.js("document.getElementById('error').hidden") and browser.errors == []


@pytest.mark.parametrize("width", [400, 800, 1280, 1600])
@pytest.mark.parametrize("view", ["runs", "one", "two", "many"])
def test_nothing_sticks_out_and_everything_has_a_name(browser, url, width, view):
    opened(browser, url, f"view={view}&run=3&other=60", width, view)
    assert browser.js("document.documentElement.scrollWidth <= window.innerWidth")
    nameless = """[...document.querySelectorAll('section:not([hidden]) :is(button, input, select, canvas)')].filter(
        (e) => !e.hidden && !(e.labels && e.labels.length) && !e.getAttribute('aria-label')
            && !e.getAttribute('aria-hidden') && !e.textContent.trim())
        .map((e) => e.id)"""
    assert browser.js(nameless) == []


def test_a_hundred_thousand_runs_are_listed_in_pages(browser, tmp_path):
    with Serving(studied(tmp_path / "large", 20, 5_000, n_steps=4, n_layers=2)) as url:
        opened(browser, url)
        assert browser.js(COUNT) == "100,000 runs"
        assert browser.js("document.querySelectorAll('#table tbody tr').length") == 50
        asked = (("where=entropy%3E4990", "200 of"), ("q=needle77777", "1 of"), ("sort=-surprisal", "100,000 r"))
        for state, words in asked:
            began = time.monotonic()
            browser.js(f"location.hash = '{state}'")
            browser.until(f"{COUNT}.startsWith('{words}')")
            assert time.monotonic() - began < 20, state
        assert browser.js("performance.memory.usedJSHeapSize") < 60e6
        opened(browser, url, "page=1999")
        assert browser.js("document.getElementById('page').textContent") == "Page 2,000 of 2,000"


def test_the_first_picture_of_three_thousand_runs_comes_within_a_second(browser, tmp_path):
    with Serving(studied(tmp_path / "study", 30, 100, n_steps=64, n_layers=12)) as url:
        browser.size(1280, 900)
        browser.open("about:blank")
        began = time.monotonic()
        browser.open(url)
        browser.until("document.body && document.body.dataset.drawn === 'runs'")
        seconds = time.monotonic() - began
        busy = os.getloadavg()[0] > os.cpu_count()
        print(f"first picture of 3,000 runs: {seconds:.2f} s{', on a busy machine' if busy else ''}")
        assert seconds < (5.0 if busy else 1.0)
