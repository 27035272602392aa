"""What a notebook shows: short lines, escaped HTML, plots; and the commands as functions."""

import io
import json
import sys

import numpy as np
import pytest
from tests.tiny_panel import WORDS, save_model

import phaselens
from phaselens.capture.progress import showing
from phaselens.cli.terminal import watching
from phaselens.engines.events import Event
from phaselens.errors import InputError, UnknownNameError

EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    model = phaselens.load(save_model(tmp_path_factory.mktemp("m"), words=(*WORDS[:-1], EVIL), context=256))
    said = phaselens.generate(model, [f"a {EVIL}", "b c"], max_new_tokens=6, seed=1)
    return model, said, phaselens.observe(model, said)


def test_lines_are_short_and_html_is_escaped(shown):
    for one in shown:
        assert len(repr(one)) < 160 and "\n" not in repr(one)
        assert "<script" not in one._repr_html_()
    _, said, trace = shown
    assert "2 runs of 2 prompts, 12 generated tokens" in repr(said) and "2 runs, 12 steps" in repr(trace)
    assert trace._repr_html_().count("<tr>") == 6 and "rgba(" in trace._repr_html_()


def test_plots_hold_the_values_of_the_trace(shown):
    matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra plot)")
    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    trace = shown[2]
    rows = trace.to_pandas("layers")
    image = trace.plot("entropy", run=1).images[0].get_array()
    wanted = rows[rows["run"] == 1].pivot(index="layer", columns="step", values="entropy").to_numpy()
    np.testing.assert_array_equal(np.asarray(image), wanted)
    line = trace.plot_layers("entropy").lines[0].get_ydata()
    np.testing.assert_allclose(line, rows.groupby("layer")["entropy"].median(), rtol=1e-5)
    assert len(trace.plot_runs("entropy", layer=2).lines) == 2
    with pytest.raises(UnknownNameError, match="Did you mean 'entropy'"):
        trace.plot("entropi")
    with pytest.raises(InputError, match="no run 7"):
        trace.plot(run=7)
    plt.close("all")


def test_bars_only_where_somebody_looks(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    def tried(asked):
        with showing(asked, "generate") as told:
            return told is not None

    monkeypatch.delenv("PHASELENS_PROGRESS", raising=False)
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert not tried(None) and tried(True) and tried(lambda done, total: None)
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert tried(None) and not tried(False)
    monkeypatch.setenv("PHASELENS_PROGRESS", "0")
    assert not tried(None) and tried(True)


def test_progress_counts_tokens_inside_a_batch(shown):
    seen = []
    phaselens.generate(shown[0], ["a", "b"], max_new_tokens=5, progress=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == [2, 4, 6, 8, 10, 10] and {total for _, total in seen} == {10}


def test_without_a_terminal_a_line_comes_every_30_seconds(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("phaselens.cli.terminal.time.monotonic", lambda: now[0])
    with watching() as listener:
        listener(Event("stage", "generate", "1 models", 0, 4))
        for second in range(1, 62):
            now[0] = float(second)
            listener(Event("part", "generate", "m", 0, 4, share=second / 100))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and lines[0] == "generate: 0.3 of 4, about 6.2 min left (m)"


def test_the_commands_are_functions(shown, tmp_path):
    rows = [
        {"text": f"{a} {b}", "label": i % 2} for i, (a, b) in enumerate(zip(WORDS * 3, WORDS[3:] * 3, strict=False))
    ]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = shown[0]
    found = phaselens.probe(model, tmp_path / "d.jsonl", out=tmp_path / "p", label="label", permutations=0, draws=1)
    assert found["tasks"][0]["task"] == "d" and (tmp_path / "p" / "report.html").is_file()
    (tmp_path / "q.jsonl").write_text("".join(f'{{"prompt": "a {w}"}}\n' for w in WORDS[:4]))
    sizes = {"tokens": 4, "draws": 2, "strengths": [0.0, 0.1], "n_prompts": 4, "n_boot": 20}
    found = phaselens.perturb(model, out=tmp_path / "n", prompts=tmp_path / "q.jsonl", **sizes)
    assert found["models"][0]["model"] == model.name and (tmp_path / "n" / "report.html").is_file()
    with pytest.raises(InputError, match="--n-prompts"):
        phaselens.perturb(model, out=tmp_path / "n2", n_prompts=1)
    with pytest.raises(InputError, match="no such file"):
        phaselens.probe(model, tmp_path / "none.jsonl", out=tmp_path / "x")
