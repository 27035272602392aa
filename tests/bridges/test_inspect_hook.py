"""The hook of inspect_ai: the trace beside the log is the one that the model gives for what was said."""

from types import SimpleNamespace as Made

import numpy as np
import pytest

import phaselens
from phaselens import inspect_hook
from phaselens.models import encoder
from phaselens.organisms import path
from phaselens.trace.transcripts import read_jsonl


class Provider:
    """What the hook uses of inspect_ai's Hugging Face provider."""

    def __init__(self, model):
        self.model, self.tokenizer, self.tokenizer_call_args = model.network, model.tokenizer, {}

    def hf_chat(self, messages, tools):
        return "".join(f"{m}\n" for m in messages)


def sample(text, *, error=None, said=None, tools=None, epoch=1, score="C"):
    said = text if said is None else said
    message = Made(tool_calls=tools)
    call = Made(event="model", input=["the cat"], tools=[], output=Made(completion=said, message=message))
    output, scores = Made(completion=text), {"exact": Made(value=score)}
    return Made(id="a", epoch=epoch, error=error, output=output, events=[Made(event="info"), call], scores=scores)


def test_each_sample_gets_its_run_or_a_reason(tmp_path):
    model = phaselens.load("organism:llama-512")
    samples = [
        sample(" sat on the mat"),
        sample("x", error="broke"),
        sample("a", said="b"),
        sample("c", tools=[1]),
        sample(" ran", epoch=2, score="I"),
    ]
    found = inspect_hook.observe_log(samples, Provider(model), tmp_path / "log.phaselens", lens="raw")
    assert [f.get("run") for f in found] == [0, None, None, None, 1]
    assert "error" in found[1]["reason"] and "no call" in found[2]["reason"] and "tools" in found[3]["reason"]
    said = read_jsonl(tmp_path / "log.phaselens" / "transcripts.jsonl")
    assert [(t.prompt_id, t.sample, t.correct) for t in said] == [("a", 0, True), ("a", 1, False)]
    assert list(said[0].prompt_ids) == encoder(model)("the cat\n")
    own = phaselens.observe(model, said, lens="raw").numpy("steps")
    mine = own["surprisal"][own["run"] == 0]
    assert found[0]["surprisal"] == pytest.approx(np.nanmean(mine), abs=1e-6)
    assert found[0]["tokens"] == len(mine) and found[0]["trace"] == "log.phaselens"
    trace = phaselens.read_trace(tmp_path / "log.phaselens")
    assert trace.numpy("runs")["run"].tolist() == [0, 1]


def test_without_inspect_ai_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "inspect_ai.hooks", None)
    with pytest.raises(phaselens.errors.MissingExtra, match=r"phaselens\[inspect\]"):
        inspect_hook.register()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # inspect_ai leaves streams of its own open
def test_an_evaluation_by_its_hugging_face_provider(tmp_path):
    inspect_ai = pytest.importorskip("inspect_ai", reason="inspect_ai is not installed (extra inspect)")
    from inspect_ai.dataset import Sample
    from inspect_ai.log import read_eval_log
    from inspect_ai.scorer import includes

    inspect_hook.register()
    task = inspect_ai.Task([Sample("The cat", target="cat", id="q1"), Sample("The dog", target="x")], scorer=includes())
    folder = str(path("llama-512"))
    settings = {"max_tokens": 8, "log_dir": str(tmp_path), "display": "none", "epochs": 2}
    (log,) = inspect_ai.eval(task, model=f"hf/{folder}", model_args={"device": "cpu"}, **settings)
    assert log.status == "success", log.error
    written = read_eval_log(log.location)
    samples = written.samples
    assert written.results == log.results and written.status == log.status and len(written.reductions) == 1
    assert all(s.scores["includes"].value in ("C", "I") and s.events for s in samples)
    trace = phaselens.read_trace(next(tmp_path.glob("*.phaselens")))
    steps = trace.numpy("steps")
    assert len(samples) == 4
    for one in samples:
        numbers = one.metadata["phaselens"]
        own = steps["surprisal"][steps["run"] == numbers["run"]]
        assert numbers["tokens"] == len(own)
        assert numbers["surprisal"] == pytest.approx(np.nanmean(own))
