from dataclasses import replace

import pytest
import torch
from tests.models.test_token_ids import CHATML
from tests.studies.test_chat_study import save_model as save_chatty
from tests.tiny_panel import WORDS, save_model
from tests.watch.browser import CHROMIUM, Browser
from tests.watch.test_watch import EVIL, FEW, TOKEN, Running

import phaselens
from phaselens.watch import Desk, View, thresholds_of
from phaselens.watch.high_values import Thresholds

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium: the page is looked at in a real browser"),
]
MARKED = "document.querySelectorAll('.token').length"


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    model = phaselens.load(save_model(tmp_path_factory.mktemp("m"), words=(*WORDS[:-1], EVIL), context=128, layers=3))
    model.network.generation_config.eos_token_id = None
    view = View.of(model, thresholds_of(model), (1, 2, 3))
    with torch.no_grad():  # near chance, so that the dangerous word is said
        model.network.lm_head.weight *= 1e-3
    return lambda: Desk(model, view, FEW)


@pytest.fixture(scope="module")
def server(desk):
    with Running(desk()) as running:
        yield running.server


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


def opened(browser, server, width=1200):
    browser.size(width, 900)
    browser.open(server.url)
    browser.until("document.readyState === 'complete' && document.getElementById('facts')?.textContent.length > 3")


def generated(browser, server):
    """A page on which 48 tokens were asked for by keyboard and shown."""
    opened(browser, server)
    browser.js("document.getElementById('prompt').focus()")
    browser.type("a b c")
    browser.js("document.getElementById('tokens').value = '48'")
    browser.press("Enter", 13, modifiers=2)
    browser.until(f"{MARKED} > 0")
    browser.until("document.getElementById('status').textContent.startsWith('Done: 48 tokens')")


def test_an_alarm_is_announced_and_marked(browser, desk):
    def alarming():
        made = desk()
        return Desk(made.model, replace(made.view, thresholds=Thresholds(2, 0.0, 0.1, 0.0, 1, "for a test")), FEW)

    with Running(alarming()) as running:
        generated(browser, running.server)
        assert browser.js("document.getElementById('alarms').getAttribute('aria-live')") == "assertive"
        said = browser.js("[...document.querySelectorAll('#alarms li')].map((one) => one.textContent)")
        assert len(said) == 1 and said[0].startswith("step 8, debt instability @ 2 = ")
        assert browser.js("document.querySelectorAll('.token.alarm').length") == 1
        assert browser.js("document.getElementById('no-alarms').hidden")


def test_a_prompt_typed_with_the_keyboard_gives_tokens(browser, server):
    generated(browser, server)
    said = browser.js("document.getElementById('text').textContent")
    assert said.startswith("a b c") and EVIL in said
    assert browser.js(f"{MARKED}") == 48
    assert browser.js("document.querySelectorAll('#text script, #text b, #text img').length") == 0
    assert browser.js("document.querySelector('#gauge-commitment').parentNode.textContent").endswith("nats")
    assert "C " in browser.js("document.getElementById('ribbon').getAttribute('aria-label')")
    label = browser.js("document.getElementById('heat').getAttribute('aria-label')")
    assert label.startswith("instability, 4 layers by 48 steps, from ")
    painted = "[...document.getElementById('heat').getContext('2d').getImageData(60, 20, 40, 40).data].some(v => v > 0)"
    assert browser.js(painted)
    assert browser.errors == []


def test_the_slider_goes_to_a_step_by_keyboard(browser, server):
    generated(browser, server)
    browser.js("document.getElementById('scrub').focus()")
    browser.press("Home", 36)
    browser.until("document.getElementById('at').textContent.startsWith('0 ')")
    browser.press("ArrowRight", 39)
    browser.until("document.querySelector('[aria-current]').dataset.step === '1'")
    assert "token" in browser.js("document.getElementById('scrub').getAttribute('aria-valuetext')")
    browser.js("document.querySelector('details').open = true")
    browser.until("document.querySelectorAll('#values tbody tr').length === 4")


def test_every_control_has_a_name_and_comes_in_reading_order(browser, server):
    opened(browser, server)
    nameless = """[...document.querySelectorAll('button, input, select, textarea, canvas[role], [role=meter]')].filter(
        (e) => !(e.labels && e.labels.length) && !e.getAttribute('aria-label') && !e.getAttribute('aria-labelledby')
            && !e.textContent.trim()).map((e) => e.id)"""
    assert browser.js(nameless) == []
    assert browser.js("[...document.querySelectorAll('[tabindex]')].every((e) => e.tabIndex <= 0)")
    assert browser.js("document.getElementById('status').getAttribute('aria-live')") == "polite"


@pytest.mark.parametrize("width", [400, 800, 1600])
def test_nothing_sticks_out_at_any_width(browser, server, width):
    opened(browser, server, width)
    assert browser.js("document.documentElement.scrollWidth <= window.innerWidth")


def test_a_limit_is_said_on_the_page(browser, server):
    opened(browser, server)
    browser.js("document.getElementById('prompt').value = 'a '.repeat(300)")
    browser.js("document.getElementById('form').requestSubmit()")
    browser.until("!document.getElementById('error').hidden")
    assert "at most" in browser.js("document.getElementById('error').textContent")


def test_the_page_asks_for_the_token_of_the_server(browser, desk):
    with Running(desk(), token=TOKEN) as running:
        browser.size(1200, 900)
        browser.open(running.server.url)
        browser.until("document.getElementById('bearer-field')?.hidden === false")
        browser.until("document.getElementById('error').textContent.includes('token')")
        browser.js("document.getElementById('bearer').focus()")
        browser.type(TOKEN)
        browser.press("Tab", 9)
        browser.until("document.getElementById('facts').textContent.length > 3")
        browser.until("document.getElementById('error').hidden")
        browser.open("about:blank")  # lets go of its connections


def test_a_model_with_a_template_is_talked_to_in_turns(browser, tmp_path):
    model = phaselens.load(save_chatty(tmp_path / "chatty", CHATML))
    view = View.of(model, thresholds_of(model), (1, 2, 3, 4))
    text = "document.getElementById('text').textContent"
    name = "document.getElementById('prompt-name').textContent"

    def put(words):
        browser.js(f"document.getElementById('prompt').value = {words!r}")
        browser.js("document.getElementById('form').requestSubmit()")
        browser.until("document.getElementById('status').textContent.startsWith('Done')")

    with Running(Desk(model, view, replace(FEW, prompt_tokens=200))) as running:
        opened(browser, running.server)
        browser.js("document.getElementById('tokens').value = '5'")
        browser.js("document.getElementById('system').value = 'Be kind.'")
        assert browser.js(name) == "Your turn"
        put("Hi")
        assert browser.js(text).startswith("system: Be kind.\nuser: Hi\nassistant: ")
        assert browser.js(name) == "Your next turn" and browser.js("document.getElementById('prompt').value") == ""
        put("And?")
        assert browser.js("document.querySelectorAll('#text .given')[0].textContent").count("assistant: ") == 2
        browser.js("document.getElementById('anew').click()")
        assert browser.js(name) == "Your turn"
        put("<b>x</b>")
        assert "And?" not in browser.js(text) and "<b>x</b>" in browser.js(text)
        browser.js("const s = document.getElementById('as'); s.value = 'text'; s.dispatchEvent(new Event('change'))")
        assert browser.js(name) == "Text to go on with"
        put("ab")
        assert browser.js(text).startswith("ab")
