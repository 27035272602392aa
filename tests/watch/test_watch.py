import asyncio
import base64
import hashlib
import http.client
import json
import re
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.tiny_panel import WORDS, save_model

import phaselens
from phaselens.capture import Sampling, generate
from phaselens.cli import call
from phaselens.dynamics.alarms import Rule, Score
from phaselens.errors import InputError, StudyFileError
from phaselens.models import encoder
from phaselens.monitor import Card
from phaselens.observing.recording import observe
from phaselens.trace.store import write_trace
from phaselens.watch import Desk, Limits, StoredRuns, View, make_app, thresholds_of
from phaselens.watch.completion_request import Talk, read_request
from phaselens.watch.high_values import Thresholds, learned
from phaselens.watch.step_view import card_words
from phaselens.watch.stop_texts import Stops
from phaselens.watch.turns import Dice, Turns
from phaselens.web.door import HEADERS, Door, Refusal
from phaselens.web.server import Server, door_of

testclient = pytest.importorskip("starlette.testclient", reason="starlette is not installed (extra live)")
EVIL = "<script>alert(1)</script>"
FEW = Limits(body=3_000, prompt_chars=400, prompt_tokens=40, tokens=64, choices=3, streams=2, stall_seconds=5)
TOKEN = "a-token-long-enough"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return phaselens.load(save_model(tmp_path_factory.mktemp("m"), words=(*WORDS[:-1], EVIL), context=128, layers=3))


@pytest.fixture(scope="module")
def view(model):
    return View.of(model, thresholds_of(model), (1, 2, 3))


@pytest.fixture(scope="module")
def stored(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    units = []
    for name, calibration in (("one", True), ("two", False)):
        said = generate(model, ["a b c", "d e"], max_new_tokens=12, sampling=Sampling(1.0), seed=3)
        said.write_jsonl(folder / f"{name}.jsonl")
        write_trace(observe(model, said), folder / "traces", name)
        unit = {"model": "tiny", "arm": "t1", "calibration": calibration, "trace": f"traces/{name}"}
        units.append({**unit, "transcripts": f"{name}.jsonl"})
    (folder / "units.json").write_text(json.dumps(units))
    return StoredRuns.read(folder)


@pytest.fixture
def client(model, view, stored):
    app = make_app(Desk(model, view, FEW), Door(), stored, "organism:other-name")
    with testclient.TestClient(app, base_url="http://127.0.0.1") as found:
        yield found


def ask(client, **fields):
    return client.post("/v1/completions", json={"prompt": "a b c", "max_tokens": 6, "temperature": 0, **fields})


def events(answer):
    lines = [line for line in answer.text.split("\n\n") if line]
    assert all(line.startswith("data: ") and "\n" not in line for line in lines)
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def refusal(answer, status):
    assert answer.status_code == status, answer.text
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    return answer.json()["error"]


def test_a_completion_is_what_the_library_says_with_dynamics_beside(client, model):
    found = ask(client, max_tokens=12).json()
    ids = model.tokenizer("a b c", return_tensors="pt")
    bare = model.network.generate(**ids, max_new_tokens=12, do_sample=False)[0, 3:].tolist()
    steps = found["dynamics"][0]["steps"]
    assert [step["token"] for step in steps] == bare
    assert found["choices"][0]["text"] == model.tokenizer.decode(bare, skip_special_tokens=True)
    assert found["usage"] == {"prompt_tokens": 3, "completion_tokens": len(bare), "total_tokens": 3 + len(bare)}
    assert found["object"] == "text_completion" and found["choices"][0]["finish_reason"] in ("stop", "length")
    offline = observe(model, [(ids["input_ids"][0].tolist(), bare)]).numpy("steps")
    for name in ("entropy", "commitment", "commit_layer"):
        assert [s["output"][name] for s in steps] == pytest.approx(offline[name].tolist(), rel=1e-4, abs=1e-5)
    assert steps[0]["instability_debt"] is None and "layers" not in steps[0]


def test_a_stream_says_the_same_piece_by_piece(client):
    whole = ask(client).json()
    found = events(ask(client, stream=True, stream_options={"include_usage": True}, dynamics_layers=True))
    assert "".join(e["choices"][0]["text"] for e in found[:-1]) == whole["choices"][0]["text"]
    assert [e["choices"][0]["finish_reason"] for e in found[:-1]][-1] == whole["choices"][0]["finish_reason"]
    assert found[-1]["usage"] == whole["usage"] and found[-1]["choices"] == []
    told = [e["dynamics"] for e in found if "dynamics" in e]
    assert [t["output"] for t in told] == [s["output"] for s in whole["dynamics"][0]["steps"]]
    assert {len(column) for column in told[0]["layers"].values()} == {4}
    assert told[3]["state"] is not None and told[0]["layers"]["instability"] == [None] * 4


def test_a_seed_gives_the_same_text_and_several_choices_differ(client):
    one, other = (ask(client, temperature=1.5, seed=s, n=2, max_tokens=12).json() for s in (5, 5))
    assert [c["text"] for c in one["choices"]] == [c["text"] for c in other["choices"]]
    assert one["choices"][0]["text"] != one["choices"][1]["text"]
    cold = [ask(client, temperature=t, seed=1).json()["choices"][0]["text"] for t in (0, 1e-6, 1e-3)]
    assert len(set(cold)) == 1
    state = torch.get_rng_state()
    ask(client, temperature=1.0, seed=1)
    assert torch.equal(torch.get_rng_state(), state)


def test_prompts_may_be_texts_or_ids_and_a_stop_text_ends_before_itself(client, model):
    ids = model.tokenizer("a b c")["input_ids"]
    texts = [ask(client, prompt=p).json()["choices"][-1]["text"] for p in ("a b c", ids, ["k", "a b c"], [ids])]
    assert len(set(texts)) == 1
    full = texts[0]
    found = ask(client, stop=[full[2:4]]).json()["choices"][0]
    assert found["text"] == full[: full.index(full[2:4])] and found["finish_reason"] == "stop"
    pieces = events(ask(client, stop=full[2:4], stream=True))
    assert "".join(e["choices"][0]["text"] for e in pieces) == found["text"]


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"prompt": "a" * 401}, 400, "prompt"),
        ({"prompt": [1] * 41}, 400, "prompt"),
        ({"prompt": [10_000]}, 400, "prompt"),
        ({"prompt": ""}, 400, "prompt"),
        ({"prompt": []}, 400, "prompt"),
        ({"prompt": {"text": "a"}}, 400, "prompt"),
        ({"max_tokens": 65}, 400, "max_tokens"),
        ({"max_tokens": 0}, 400, "max_tokens"),
        ({"max_tokens": "many"}, 400, "max_tokens"),
        ({"seed": 2**70}, 400, "seed"),
        ({"temperature": -1}, 400, "temperature"),
        ({"temperature": 1e-30}, 400, "temperature"),
        ({"top_k": 5}, 400, "top_k"),
        ({"repetition_penalty": 1.2}, 400, "repetition_penalty"),
        ({"max_completion_tokens": 5}, 400, "max_completion_tokens"),
        ({"stream_options": {"every": 2}}, 400, "stream_options"),
        ({"top_p": 0}, 400, "top_p"),
        ({"n": 4}, 400, "n"),
        ({"stop": [""]}, 400, "stop"),
        ({"logprobs": 3}, 400, "logprobs"),
        ({"echo": True}, 400, "echo"),
        ({"presence_penalty": 1.0}, 400, "presence_penalty"),
        ({"best_of": 3}, 400, "best_of"),
        ({"model": "gpt-17"}, 404, "model"),
        ({"prompt": "a b", "user": "x" * 4_000}, 413, None),
    ],
)
def test_what_is_beyond_a_limit_is_refused_in_words(client, fields, status, param):
    assert refusal(ask(client, **fields), status)["param"] == param


def test_bodies_that_are_no_request_are_refused(client):
    def post(content, kind="application/json"):
        return client.post("/v1/completions", content=content, headers={"Content-Type": kind})

    assert refusal(post(b"{"), 400) and refusal(post(b"[]"), 400) and refusal(post(b"\xff"), 400)
    refusal(post(b"{}", "text/plain"), 415)
    refusal(post(b"[" * 2_900), 400)
    assert "surrogate" in refusal(post(b'{"prompt": "a \\ud800"}'), 400)["message"]
    refusal(post(iter([b"x" * 2_000] * 3)), 413)
    refusal(client.get("/v1/completions"), 405)
    refusal(client.get("/v1/nothing"), 404)
    assert ask(client, model="organism:other-name").status_code == 200
    assert ask(client, user="me", top_k=None).status_code == 200  # of the client's books, and nothing asked for
    found = refusal(ask(client, **{"x\x1b[2J\n": 1}), 400)["message"]
    assert "x␛[2J↵ is not carried out" in found


def test_models_and_the_page_under_a_strict_policy(client, model):
    assert client.get("/v1/models").json()["data"][0]["id"] == model.name
    for name in (model.name, "organism:other-name"):
        assert client.get(f"/v1/models/{name}").json()["id"] == name
    assert refusal(client.get("/v1/models/org/other"), 404)["code"] == "model_not_found"
    answer = client.get("/")
    policy = answer.headers["content-security-policy"]
    assert answer.status_code == 200 and {name.lower() for name in HEADERS} <= set(answer.headers.keys())
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy
    code, style = (re.search(rf"<{tag}[^>]*>(.*?)</{tag}>", answer.text, re.S)[1] for tag in ("script", "style"))
    for part in (code, style):
        assert base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() in policy
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|Function\(", code)
    outside = re.findall(r"(?:https?:)?//[a-z0-9.]+\.[a-z]{2,}", answer.text)
    assert set(outside) <= {"http://www.w3.org"}, outside  # the name of SVG, which nothing asks
    assert answer.text.count("<script") == 1 and " style=" not in answer.text and " onclick" not in answer.text
    assert client.get("/v1/models").headers["content-security-policy"].startswith("default-src 'none'")


def test_text_of_a_model_stays_text(model, view):
    with torch.no_grad():
        kept = model.network.lm_head.weight.clone()
        model.network.lm_head.weight.zero_()
        model.network.lm_head.weight[model.tokenizer.get_vocab()[EVIL]] = 1e-4
    try:
        with testclient.TestClient(make_app(Desk(model, view, FEW)), base_url="http://127.0.0.1") as client:
            for stream in (False, True):
                answer = ask(client, stream=stream, temperature=1, seed=0, max_tokens=64)
                kind = "text/event-stream" if stream else "application/json"
                assert answer.headers["content-type"].startswith(kind)
                assert answer.headers["x-content-type-options"] == "nosniff"
                assert EVIL in answer.text
    finally:
        with torch.no_grad():
            model.network.lm_head.weight.copy_(kept)


def test_a_token_is_wanted_and_other_names_are_refused(model, view):
    app = make_app(Desk(model, view, FEW), Door(TOKEN))
    with testclient.TestClient(app, base_url="http://127.0.0.1") as client:
        assert refusal(ask(client), 401)["type"] == "authentication_error"
        for wrong in ("Bearer nothing", f"Basic {TOKEN}", TOKEN, "Bearer ", "Bearer \u00e9".encode()):
            refusal(client.get("/api/about", headers={"Authorization": wrong}), 401)
        assert client.get("/").status_code == 200
        client.headers["Authorization"] = f"Bearer {TOKEN}"
        assert ask(client).status_code == 200
        refusal(client.get("/v1/models", headers={"Host": "evil.example:8765"}), 403)
        assert client.get("/v1/models", headers={"Host": "localhost:8765"}).status_code == 200


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["tiny", "--host", "0.0.0.0"], "token"),
        (["tiny", "--token", "short"], "16"),
        (["tiny", "--study", "nowhere"], "study folder"),
        (["organism:nothing"], "nothing"),
        (["tiny", "--port", "x"], "port"),
    ],
)
def test_what_cannot_be_watched_is_said_with_exit_2(arguments, says, capsys, monkeypatch):
    monkeypatch.delenv("PHASELENS_WATCH_TOKEN", raising=False)
    assert call(["watch", "--json", "--port", "0", *arguments]) == 2
    shown = capsys.readouterr()
    assert says in shown.err and shown.out == ""


def test_the_first_line_is_the_address(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Server, "run", lambda self, app, before_end, **_: before_end.__self__.close())
    folder = save_model(tmp_path / "tiny", layers=2)
    assert call(["watch", str(folder), "--port", "0", "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[0])
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", found["url"]) and found["api"] == found["url"] + "v1"
    bare = save_model(tmp_path / "bare", with_tokenizer=False)
    assert call(["watch", str(bare), "--port", "0"]) == 2
    assert "tokenizer" in capsys.readouterr().err


def test_beyond_loopback_a_token_is_needed():
    for host in ("0.0.0.0", "::", "192.168.0.7", "example.org", ""):
        with pytest.raises(InputError, match="token"):
            door_of(host, None)
        assert door_of(host, TOKEN).hosts is None
    for host in ("127.0.0.1", "127.0.0.9", "::1", "localhost"):
        assert door_of(host, None).token is None
    assert "127.0.0.9" in door_of("127.0.0.9", None).hosts
    with pytest.raises(InputError, match="16"):
        door_of("127.0.0.1", "short")
    first = Server()
    with pytest.raises(InputError, match="cannot listen"):
        Server(port=first.port)
    first.socket.close()


def test_stored_runs_are_given_as_live_steps(client, model, stored):
    listed = client.get("/api/runs").json()
    assert [(r["unit"], r["run"]) for r in listed["runs"]] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    found = client.get("/api/runs/1/1").json()
    assert found["prompt"] == "d e" and len(found["steps"]) == 12
    said = client.get("/api/about").json()
    assert said["study"] and found["dynamics"]["layers"] == said["dynamics"]["layers"]
    texts = "".join(step["text"] for step in found["steps"])
    ids = [step["token"] for step in found["steps"]]
    assert texts == model.tokenizer.decode(ids)
    again = observe(model, [(model.tokenizer("d e")["input_ids"], ids)]).numpy("layers", ("layer", "instability"))
    ct = again["instability"].reshape(12, 4)
    assert found["steps"][7]["layers"]["instability"] == pytest.approx(ct[7].tolist(), rel=1e-4)
    for path in ("/api/runs/9/0", "/api/runs/1/77"):
        refusal(client.get(path), 404)
    refusal(client.get("/api/runs/../units.json"), 404)
    with pytest.raises(StudyFileError):
        StoredRuns.read(Path(__file__).parent)


def test_without_a_study_there_are_no_runs(model, view):
    with testclient.TestClient(make_app(Desk(model, view, FEW)), base_url="http://127.0.0.1") as client:
        refusal(client.get("/api/runs"), 404)


def test_thresholds_are_those_of_calm_runs(model):
    found = thresholds_of(model)
    assert found.n_runs == 8 and found.layer == 2 and 0 < found.turbulence < 1
    said = generate(model, ["a b c"] * 5, max_new_tokens=24, sampling=Sampling(1.0), seed=0, samples=1)
    trace = observe(model, said)
    made = learned([trace], 2, "here")
    rows = trace.numpy("layers")
    ct = rows["instability"][rows["layer"] == 2]
    centre = np.nanmedian(ct)
    assert made.tau == pytest.approx(centre + 3 * 1.4826 * np.nanmedian(np.abs(ct - centre)), rel=1e-6)
    assert made.rules[0].threshold == made.alarm
    assert Thresholds(2, np.nan, 0.1, np.nan, 0, "").rules == ()
    assert not Thresholds(2, 1.0, 0.1, np.nan, 0, "").rules[0].alarms(1e9, 20)


def test_an_alarm_is_told_once_when_the_debt_goes_beyond(model, view, monkeypatch):
    monkeypatch.setattr(model.network.generation_config, "eos_token_id", None)
    low = View(view.layers, view.lens_layers, Thresholds(2, 0.0, 0.1, 1.0, 1, "for a test"))
    with testclient.TestClient(make_app(Desk(model, low, FEW)), base_url="http://127.0.0.1") as client:
        steps = ask(client, max_tokens=20, temperature=1, seed=0).json()["dynamics"][0]["steps"]
    debts = [step["instability_debt"] for step in steps]
    assert debts[:2] == [None, None] and min(debts[8:]) > 1
    told = {step["step"]: step["alarms"] for step in steps if step["alarms"]}
    assert list(told) == [8] and "debt instability @ 2" in told[8][0]
    assert {step["score"] for step in steps} == {None} and low.to_dict()["card"] is None


def test_a_card_brings_its_own_score_and_must_fit(model, view):
    def card(fingerprint, column):
        rule = Rule(Score(column, 1, "value"), -1e9)
        return Card("tiny", fingerprint, rule, 0.1, {}, "none", False)

    quick = View(view.layers, view.lens_layers, Thresholds(2, 0.0, 0.1, 0.0, 1, "for a test"))
    app = make_app(Desk(model, quick, FEW, card(model.fingerprint, "log_rms")))
    with testclient.TestClient(app, base_url="http://127.0.0.1") as client:
        steps = ask(client, max_tokens=12, temperature=1, seed=0).json()["dynamics"][0]["steps"]
        about = client.get("/api/about").json()
    assert len(steps) > 8 and steps[8]["instability_debt"] > 0
    assert ["log_rms" in alarm for step in steps for alarm in step["alarms"]] == [True]
    assert "Alarms by the card: value log_rms @ 1 above -1e+09." == about["dynamics"]["alarms"]
    told = about["dynamics"]["card"]
    assert (told["score"], told["threshold"], told["above"], told["after"]) == ("value log_rms @ 1", -1e9, True, 8)
    assert all(np.isfinite(step["score"]) for step in steps)
    with pytest.raises(InputError, match="another|card is of"):
        Desk(model, view, FEW, card("0" * 64, "log_rms"))
    with pytest.raises(InputError, match="unknown"):
        Desk(model, view, FEW, card(model.fingerprint, "nothing"))


def test_a_card_says_what_it_was_worth():
    rates = {"false_alarm_rate": {"value": 0.08}, "hit_rate": {"value": 0.31}}
    for beats, ending in ((True, "ones."), (False, "ones, which is not more than mean entropy finds.")):
        card = Card("m", "0" * 64, Rule(Score("coherence", 4, "mean"), 0.9, False), 0.1, rates, "mean entropy", beats)
        said = card_words(card)
        assert said.startswith("Alarms by the card: mean coherence @ 4 below 0.9. On its test questions 8 % of")
        assert said.endswith("31 % of the wrong " + ending)


def test_stop_texts_across_pieces():
    for cut in range(1, 8):
        stops = Stops(["stop", "opt"])
        text = "a st st stop b"
        shown = "".join(stops.push(text[i : i + cut]) for i in range(0, len(text), cut)) + stops.rest()
        assert shown == "a st st " and stops.reached
    none = Stops([])
    assert none.push("abc") == "abc" and none.rest() == ""


def test_turns_go_round_in_the_order_of_asking():
    turns, order, ready = Turns(), [], threading.Barrier(4)

    def work(name):
        with turns.turn():
            for _ in range(3):
                order.append(name)
                turns.pass_on()

    def later(name):
        ready.wait()
        time.sleep(0.05 * name)
        work(name)

    threads = [threading.Thread(target=later, args=(name,)) for name in range(1, 4)]
    with turns.turn():
        for thread in threads:
            thread.start()
        ready.wait()
        while len(turns._waiting) < 3:
            time.sleep(0.01)
    for thread in threads:
        thread.join()
    assert order == [1, 2, 3] * 3


def test_dice_of_two_streams_do_not_mix():
    device = torch.device("cpu")
    torch.manual_seed(9)
    alone = torch.rand(4)
    one, other = Dice(device, 9), Dice(device, 10)
    drawn = []
    for _ in range(4):
        one.take()
        drawn.append(torch.rand(1))
        one.leave()
        other.take()
        torch.rand(3)
        other.leave()
    assert torch.equal(torch.cat(drawn), alone)


def test_requests_are_read_against_the_context(model):
    limits = Limits(prompt_tokens=500, tokens=500)
    with pytest.raises(Refusal, match="context"):
        read_request({"prompt": [1] * 100, "max_tokens": 100}, model, ("m",), limits)
    with pytest.raises(InputError):
        Limits(streams=0)


def test_a_failure_inside_is_told_without_its_words(model, view, monkeypatch):
    desk = Desk(model, view, FEW)

    def fails(*args):
        raise RuntimeError("a path of this machine")

    monkeypatch.setattr(desk, "_choice", fails)
    with testclient.TestClient(make_app(desk), base_url="http://127.0.0.1") as client:
        found = refusal(ask(client), 500)
        assert "path" not in found["message"]
        told = events(ask(client, stream=True))
        assert told[-1]["error"]["type"] == "server_error"
        assert not desk.jobs


class Running:
    """A real server in a thread."""

    def __init__(self, desk, token=None, **more):
        self.desk, self.server = desk, Server(token=token)
        self._uvicorn = self.server.uvicorn(
            make_app(desk, self.server.door, **more), desk.cancel_all, **desk.limits.waiting
        )
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    async def _serve(self):
        await self._uvicorn.serve(sockets=[self.server.socket])

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._uvicorn.should_exit = True
        self._thread.join(20)
        self.server.socket.close()
        assert not self._thread.is_alive()

    def stream(self, **fields):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        body = json.dumps({"prompt": "a b c", "max_tokens": 64, "temperature": 1, **fields})
        connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
        return connection

    def calm(self, seconds=10):
        end = time.monotonic() + seconds
        while self.desk.jobs and time.monotonic() < end:
            time.sleep(0.02)
        return not self.desk.jobs


@pytest.fixture
def slow(model, view, monkeypatch):
    """A desk whose every token takes a moment, so that a request can be left in the middle; no text ends by itself."""
    desk = Desk(model, view, FEW)
    shown = View.live
    made = []

    def slowly(self, step, *, layers):
        made.append(step.step)
        time.sleep(0.03)
        return shown(self, step, layers=layers)

    monkeypatch.setattr(View, "live", slowly)
    monkeypatch.setattr(model.network.generation_config, "eos_token_id", None)
    desk.made = made
    return desk


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_frees_its_place(slow, stream):
    with Running(slow) as running:
        left = [running.stream(stream=stream) for _ in range(2)]
        if stream:
            assert left[0].getresponse().read(100)
        while len(slow.made) < 4:
            time.sleep(0.01)
        third = running.stream()
        answer = third.getresponse()
        assert answer.status == 429 and answer.headers["Retry-After"] == "1"
        assert json.loads(answer.read())["error"]["code"] == "rate_limit_exceeded"
        third.close()
        for connection in left:
            connection.sock.close() if connection.sock else None
            connection.close()
        assert running.calm()
        assert len(slow.made) < 100
        again = running.stream(max_tokens=2)
        assert again.getresponse().status == 200
        again.close()


def test_two_streams_go_on_side_by_side_and_a_seed_holds(slow):
    def texts(connections):
        said = [connection.getresponse().read().decode() for connection in connections]
        for connection in connections:
            connection.close()
        return [re.findall(r'"token":(\d+)', one) for one in said]

    with Running(slow) as running:
        together = texts([running.stream(stream=True, max_tokens=30, seed=i) for i in range(2)])
        order = list(slow.made)
        alone = [texts([running.stream(stream=True, max_tokens=30, seed=i)])[0] for i in range(2)]
    assert order.index(0, 1) < 25, "the second stream had to wait for the end of the first"
    assert together == alone and together[0] != together[1] and len(alone[0]) == 30


def half_sent(port, n):
    found = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(n)]
    for one in found:
        one.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n")
    return found


def test_half_sent_requests_keep_nobody_out_and_are_closed(model, view):
    with Running(Desk(model, view, replace(FEW, header_seconds=1.0))) as running:
        open_ones = half_sent(running.server.port, 70)
        began = time.monotonic()
        connection = running.stream(max_tokens=2, stream=True)
        assert connection.getresponse().status == 200 and time.monotonic() - began < 1
        connection.close()
        open_ones[-1].settimeout(5)
        assert open_ones[-1].recv(100) == b"" or pytest.fail("the connection was answered")
        for one in open_ones:
            one.close()


def test_requests_beyond_the_limit_are_answered_as_the_api_does(slow):
    slow.limits = replace(FEW, connections=1)
    with Running(slow) as running:
        first = running.stream(stream=True)
        assert first.getresponse().read(10)
        second = running.stream()
        answer = second.getresponse()
        assert (
            answer.status == 503 and answer.headers["Retry-After"] == "1" and answer.headers["X-Content-Type-Options"]
        )
        assert json.loads(answer.read())["error"]["code"] == "overloaded"
        first.close()
        second.close()


def test_the_server_ends_while_a_stream_is_open(slow):
    with Running(slow) as running:
        connection = running.stream(stream=True)
        answer = connection.getresponse()
        assert answer.read(10)
    assert answer.read().endswith(b"data: [DONE]\n\n")
    connection.close()
    assert len(slow.made) < 64


TEMPLATE = "{% for m in messages %}{{ m.role[0] }} {{ m.content }}<eos>{% endfor %}"
TEMPLATE += "{% if add_generation_prompt %}a{% endif %}"


@pytest.fixture
def talking(model, monkeypatch):
    monkeypatch.setattr(model.tokenizer, "chat_template", TEMPLATE)
    return model


def test_conversations_go_through_the_template_and_say_log_probabilities(talking, view):
    openai = pytest.importorskip("openai", reason="the official openai client is not installed")
    model = talking
    turns = [{"role": "user", "content": "b c"}]
    ids = encoder(model).chat([("user", "b c")])
    with Running(Desk(model, view, FEW), talk=Talk(system="d")) as running:
        with openai.OpenAI(base_url=f"{running.server.url}v1", api_key="none", max_retries=0) as client:
            asked = {"model": model.name, "max_tokens": 6, "temperature": 0}
            system = [{"role": "system", "content": "e"}, *turns]
            plain = client.completions.create(**asked, prompt=encoder(model).chat([("system", "e"), ("user", "b c")]))
            whole = client.chat.completions.create(**asked, messages=system, logprobs=True, top_logprobs=3)
            assert whole.choices[0].message.content == plain.choices[0].text
            assert whole.object == "chat.completion"
            assert whole.usage.completion_tokens == len(whole.dynamics[0]["steps"])
            for said, step in zip(whole.choices[0].logprobs.content, whole.dynamics[0]["steps"], strict=True):
                assert said.logprob == pytest.approx(-step["output"]["surprisal"], abs=1e-4)
                assert len(said.top_logprobs) == 3 and said.top_logprobs[0].logprob == said.logprob  # greedy
            with_default = client.chat.completions.create(**asked, messages=turns)
            assert with_default.usage.prompt_tokens == len(encoder(model).chat([("system", "d"), ("user", "b c")]))
            assert with_default.usage.prompt_tokens > len(ids) and with_default.choices[0].logprobs is None
            asked["messages"] = system
            pieces = list(client.chat.completions.create(**asked, logprobs=True, stream=True))
            assert "".join(p.choices[0].delta.content for p in pieces) == whole.choices[0].message.content
            assert pieces[0].object == "chat.completion.chunk" and pieces[0].choices[0].delta.role == "assistant"
            assert pieces[0].dynamics["step"] == 0 and pieces[-1].choices[0].finish_reason
            assert len(pieces[0].choices[0].logprobs.content) == 1
            image = {"type": "image_url", "image_url": {"url": "x"}}
            for wrong, says in (
                ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools is not carried out"),
                ({"extra_body": {"echo": True}}, "echo is not"),
                ({"top_logprobs": 21, "logprobs": True}, "top_logprobs"),
                ({"messages": [{"role": "user", "content": [image]}]}, "image"),
                ({"messages": []}, "without a turn"),
            ):
                with pytest.raises(openai.BadRequestError, match=says):
                    client.chat.completions.create(**asked | wrong)


def test_without_a_template_conversations_are_refused_and_with_chat_a_prompt_is_a_turn(model, view, monkeypatch):
    asked = {"messages": [{"role": "user", "content": "a"}]}
    with testclient.TestClient(make_app(Desk(model, view, FEW)), base_url="http://127.0.0.1") as client:
        assert "no chat template" in refusal(client.post("/v1/chat/completions", json=asked), 400)["message"]
    monkeypatch.setattr(model.tokenizer, "chat_template", TEMPLATE)
    app = make_app(Desk(model, view, FEW), talk=Talk(chat=True))
    with testclient.TestClient(app, base_url="http://127.0.0.1") as client:
        turn = client.post("/v1/chat/completions", json={**asked, "max_tokens": 4, "temperature": 0}).json()
        bare = ask(client, prompt="a", max_tokens=4).json()
        assert bare["choices"][0]["text"] == turn["choices"][0]["message"]["content"]
        assert bare["usage"] == turn["usage"] and client.get("/api/about").json()["chat"]


def test_logits_that_are_not_finite_are_said(model, view):
    weight = model.network.lm_head.weight
    kept = weight.detach().clone()
    with torch.no_grad():
        weight[3] = torch.nan
    try:
        with testclient.TestClient(make_app(Desk(model, view, FEW)), base_url="http://127.0.0.1") as client:
            for temperature in (0, 1):
                assert "NaN or infinity" in refusal(ask(client, temperature=temperature), 400)["message"]
    finally:
        with torch.no_grad():
            weight.copy_(kept)


def test_the_official_client_is_served(model, view):
    openai = pytest.importorskip("openai", reason="the official openai client is not installed")
    with Running(Desk(model, view, FEW)) as running:
        with openai.OpenAI(base_url=f"{running.server.url}v1", api_key="none", max_retries=0) as client:
            assert client.models.list().data[0].id == model.name
            asked = {"model": model.name, "prompt": "a b c", "max_tokens": 6, "temperature": 0}
            whole = client.completions.create(**asked)
            assert whole.usage.completion_tokens == len(whole.dynamics[0]["steps"])
            pieces = list(client.completions.create(**asked, stream=True, extra_body={"dynamics_layers": True}))
            assert "".join(p.choices[0].text for p in pieces) == whole.choices[0].text
            assert len(pieces[0].dynamics["layers"]["entropy"]) == 4
            with pytest.raises(openai.BadRequestError, match="max_tokens"):
                client.completions.create(**asked | {"max_tokens": 10_000})
            with pytest.raises(openai.NotFoundError):
                client.completions.create(**asked | {"model": "another"})
