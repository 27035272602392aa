"""One observable, one control, one claim, one figure and one architecture, each in one file of a package of somebody
else: nothing of phaselens is touched, and each works at once."""

import importlib
import json
import sys
import textwrap

import numpy as np
import pytest
import torch
from tests.probes.planted_states import planted
from tests.tiny_panel import save_model, save_study

import phaselens
from phaselens.errors import ModelRefused
from phaselens.monitor import Monitor
from phaselens.probes.controls import CONTROLS
from phaselens.readings import Settings, analyse
from phaselens.report.render import render
from phaselens.report.sections import SECTIONS
from phaselens.studies import run_study
from phaselens.studies.declaration import read_study

FILES = {
    "__init__.py": "",
    "observables.py": '''
        import math

        from torch import Tensor

        from phaselens.observables import observable


        @observable(axis="step", lookback=1, unit="1", bounds=(0.0, math.inf), keeps={"rotation", "common_scale"})
        def own_step(hidden: Tensor) -> Tensor:  # [run, layer, step, d_model] -> [run, layer, step]
            """Length of a step over the length of the state before it, dimensionless."""
            out = hidden.new_full(hidden.shape[:-1], math.nan)
            out[..., 1:] = (hidden[..., 1:, :] - hidden[..., :-1, :]).norm(dim=-1) / hidden[..., :-1, :].norm(dim=-1)
            return out
        ''',
    "controls.py": '''
        import torch

        from phaselens.probes.controls import Control


        def flip(hidden, generator, *, labels, blocks):
            """The signs of a random half of the features."""
            return hidden * (torch.randint(0, 2, (hidden.shape[-1],), generator=generator) * 2 - 1)


        def nothing(hidden, generator, *, labels, blocks):
            """States that say nothing."""
            return torch.randn(hidden.shape, generator=generator)


        FLIP = Control("sign flips", flip, "hidden", "equal", "-", "sanity", ("equal", ""))
        NOTHING = Control("fresh states", nothing, "hidden", "equal", "-", "sanity", ("equal", ""))  # this one is wrong
        ''',
    "claims.toml": """
        [[claims]]
        id = "U1"
        statement = "Runs turn by more than a tenth of a radian."
        table = "regimes_runs"
        value = "mean_ct"
        statistic = "mean"
        unit = "prompt_id"
        comparison = "above"
        margin = 0.1
        """,
    "figures.py": '''
        from markupsafe import Markup

        from phaselens.report import svg
        from phaselens.report.section import Section, pair


        def bars(name, rows, width):
            """A bar for each run: its mean ct."""
            marks = [
                svg.rect(8, 20 + 16 * i, 40 * row["mean_ct"], 10, "mark", svg.tip(f"{row['model']}, {row['mean_ct']}"))
                for i, row in enumerate(rows)
            ]
            return svg.frame(name, "Mean ct of every run", "One bar a run.", width, 40 + 16 * len(rows), *marks)


        def blocks(folder, members):
            rows = folder.rows("regimes_runs")
            caption = Markup("<b>How far does each run turn?</b> A bar a run.")
            return [pair("own-bars", bars, rows, layouts=(920, 360), caption=caption)] if rows else []


        SECTION = Section("own-turning", "Own turning", "What turns", ("regimes_runs",), blocks)
        ''',
    "architecture.py": '''
        import torch
        from torch import nn
        from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
        from transformers.modeling_outputs import CausalLMOutput


        class OwnConfig(PretrainedConfig):
            model_type = "own_decoder"

            def __init__(self, width=16, depth=3, vocab_size=64, shrink=0.25, **more):
                super().__init__(**more)
                self.width, self.num_hidden_layers, self.vocab_size, self.shrink = width, depth, vocab_size, shrink


        class Block(nn.Module):
            """A causal running mean, mixed into the state."""

            def __init__(self, width):
                super().__init__()
                self.mix, self.norm = nn.Linear(width, width), nn.LayerNorm(width)

            def forward(self, state):
                seen = torch.arange(1, state.shape[1] + 1, device=state.device)[None, :, None]
                return state + torch.tanh(self.mix(self.norm(state.cumsum(1) / seen)))


        class OwnModel(PreTrainedModel):
            config_class = OwnConfig

            def __init__(self, config):
                super().__init__(config)
                self.words = nn.Embedding(config.vocab_size, config.width)
                self.stack = nn.ModuleList(Block(config.width) for _ in range(config.num_hidden_layers))
                self.last = nn.LayerNorm(config.width)
                self.speak = nn.Linear(config.width, config.vocab_size, bias=False)
                self.post_init()

            def get_input_embeddings(self):
                return self.words

            def forward(self, input_ids, **more):
                state = self.words(input_ids)
                for block in self.stack:
                    state = block(state)
                return CausalLMOutput(logits=self.speak(self.last(state)) * self.config.shrink)


        AutoConfig.register("own_decoder", OwnConfig)
        AutoModelForCausalLM.register(OwnConfig, OwnModel)
        OVERRIDES = {"head": "speak"}  # the library does not know which module is its output embedding
        ''',
}


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """The package, importable; gone afterwards."""
    place = tmp_path_factory.mktemp("site")
    (place / "theirs").mkdir()
    for name, text in FILES.items():
        (place / "theirs" / name).write_text(textwrap.dedent(text).lstrip())
    sys.path.insert(0, str(place))
    yield lambda module: importlib.import_module(f"theirs.{module}")
    sys.path.remove(str(place))
    for name in [name for name in sys.modules if name.split(".")[0] == "theirs"]:
        del sys.modules[name]


def test_an_observable_is_offline_live_and_on_the_monitor(theirs, tmp_path):
    own = theirs("observables").own_step
    model = phaselens.load(save_model(tmp_path / "model"))
    said, live = phaselens.live(
        model, ["a b c"], max_new_tokens=6, sampling=phaselens.GREEDY, observables=[own, "entropy"]
    )
    offline = phaselens.observe(model, said, observables=[own, "entropy"])
    watched = {}
    given = model.tokenizer("a b c", return_tensors="pt")
    with Monitor(
        model, observables=[own], layers=(2,), on_step=lambda s: watched.update({s.step: s.layers["own_step"][0]})
    ):
        model.network.generate(**given, max_new_tokens=6, min_new_tokens=6, do_sample=False)
    (info,) = [c for c in offline.columns("layers") if c.name == "own_step"]
    assert info.unit == "1" and info.description.startswith("Length of a step over")
    rows = [trace.numpy("layers") for trace in (offline, live)]
    np.testing.assert_allclose(rows[0]["own_step"], rows[1]["own_step"], rtol=1e-4)
    hidden = phaselens.observe(model, said, keep_hidden=True).hidden  # by hand, from the states themselves
    states = next(iter(hidden.values()))[:, 2].astype(float)
    by_hand = np.linalg.norm(np.diff(states, axis=0), axis=1) / np.linalg.norm(states[:-1], axis=1)
    mine = rows[0]["own_step"][rows[0]["layer"] == 2]
    np.testing.assert_allclose(mine[1:], by_hand, rtol=1e-4)
    assert len(watched) and all(np.isclose(v, mine[s], rtol=1e-3, equal_nan=True) for s, v in watched.items())


def test_a_control_stands_in_the_table_and_is_held_against_its_expectation(theirs):
    mine = (theirs("controls").FLIP, theirs("controls").NOTHING)
    X, labels, groups = planted(n=120, d=6)
    fast = {"n_draws": 3, "n_boot": 50, "n_permutations": 0, "code": False}
    settings = Settings((10.0,), 3, controls=(CONTROLS[0], *mine), **fast)
    rows = analyse("own", [x.numpy() for x in X], labels.astype(object), groups, settings=settings).controls
    assert {row["control"]: row["refit_holds"] for row in rows} == {
        "identity": "yes",
        "sign flips": "yes",  # a reflection: a probe that is fitted again does not see it
        "fresh states": "no",
    }


@pytest.fixture(scope="module")
def done(theirs, tmp_path_factory):
    """A study of one tiny model with the claim of the package."""
    place = tmp_path_factory.mktemp("study")
    path = save_study(place / "in", families=("llama",), experiments=["regimes"], claims="claims.toml")
    (place / "in" / "claims.toml").write_text(textwrap.dedent(FILES["claims.toml"]))
    return run_study(read_study(path), place / "out").folder


def test_a_claim_is_registered_before_the_data_and_judged(done):
    registered = {row["id"] for row in json.loads((done / "manifest.json").read_text())["registered"]}
    claim = {c["id"]: c for c in json.loads((done / "claims.json").read_text())}["U1"]
    assert "U1" in registered and not claim["post_hoc"]
    assert claim["verdict"] in ("supported", "rejected", "open") and claim["estimate"] > 0.1


def test_a_figure_is_on_the_page_with_its_place_in_the_contents(theirs, done):
    plain = render(done).read_text()
    text = render(done, sections=(*SECTIONS, theirs("figures").SECTION)).read_text()
    for said in ('id="own-turning"', 'href="#own-turning"', "How far does each run turn?", 'id="fig-own-bars"'):
        assert said in text and said not in plain
    assert text.count("<svg") == plain.count("<svg") + 2  # wide and narrow


def test_an_architecture_is_refused_loaded_and_proved(theirs, tmp_path):
    own = theirs("architecture")
    torch.manual_seed(0)
    network = own.OwnModel(own.OwnConfig())
    with pytest.raises(ModelRefused, match="no single output embedding"):
        phaselens.load(network)
    network.save_pretrained(tmp_path / "own")
    model = phaselens.load(tmp_path / "own", overrides=own.OVERRIDES)
    assert model.family == "own_decoder" and model.n_layers == 3 and model.block_path == "stack"
    assert model.proof.passed and model.readout.scale == pytest.approx(0.25)
    trace = phaselens.observe(model, [([1, 2, 3], [4, 5, 6])], observables=["entropy", "turning_angle"])
    assert np.isfinite(trace.numpy("steps")["entropy"]).all()
