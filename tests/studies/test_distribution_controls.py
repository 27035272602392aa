"""What control lenses need of a model: layer temperatures that match, logits' size, and a tuned lens that is kept."""

import json
import math

import numpy as np
import pytest
import torch
from tools.tiny import build_tiny

from phaselens.capture import Sampling, generate
from phaselens.errors import StudyFileError
from phaselens.measure.reducer import LensSpec
from phaselens.models import load
from phaselens.observing.recording import observe
from phaselens.organisms import load as load_organism
from phaselens.studies.declaration import CONTROL_LENSES, Source
from phaselens.studies.stages.distribution_controls import (
    control_lenses,
    grid,
    kept_controls,
    layer_states,
    layer_targets,
    matching_temperatures,
    measure_controls,
    read_translators,
    tuned_lens,
)
from phaselens.studies.stages.model_recipes import has_qk_norm, made_of
from phaselens.studies.stages.models_and_prompts import Member
from tiny_panel import SENTENCES, save_model


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    model = load(save_model(tmp_path_factory.mktemp("tiny") / "m"))
    return model, generate(model, SENTENCES[:10], max_new_tokens=12, sampling=Sampling(1.0), seed=1)


def member(label: str, n_layers: int, *, untrained: bool = False, cap=None) -> Member:
    facts = {"n_layers": n_layers, "facts": {"cap": cap}}
    return Member(label, Source(source=label), untrained, None, facts)


def test_matched_layers_have_the_wanted_entropy_when_observed(tiny):
    model, said = tiny
    controls = measure_controls(model, said)
    wanted = [2.2] * (model.n_layers + 1)
    heat = matching_temperatures(controls, wanted)
    lens = (LensSpec(), LensSpec(temperatures=heat, label="hot"))
    rows = observe(model, said, lens=lens, observables=["entropy"]).numpy("layers")
    for layer in range(model.n_layers + 1):
        assert rows["entropy__hot"][rows["layer"] == layer].mean() == pytest.approx(2.2, abs=6e-3)
    assert np.ptp([rows["entropy"][rows["layer"] == layer].mean() for layer in range(model.n_layers + 1)]) > 0.02
    assert math.isnan(matching_temperatures(controls, [9.0] * len(wanted))[0])
    assert grid()[len(grid()) // 2] == pytest.approx(1.0)


def test_the_size_of_the_logits_is_the_median_of_the_top_above_the_mean(tiny):
    model, said = tiny
    states, _ = layer_states(model, said)
    logits = model.readout.logits(states[:, -1]).detach()
    expected = (logits.amax(-1) - logits.mean(-1)).median().item()
    assert measure_controls(model, said)["top_centred_logit"] == pytest.approx(expected, rel=1e-4)


def test_layer_targets_are_the_median_at_the_same_depth():
    def curve(values):
        return {"controls": {"entropy": [[0.0] * 16 + [v] + [1.0] * 16 for v in values]}}

    members = [member("a", 2), member("b", 4), member("c", 2), member("t", 2, untrained=True)]
    curves = {"a": curve([0, 0.4, 0.8]), "b": curve([0.2, 0.2, 0.5, 0.6, 0.6]), "c": curve([1, 0.9, 0.9])}
    targets = layer_targets(members, curves | {"t": curve([0.0, 0.0, 0.0])})
    assert targets["a"] == pytest.approx((0.2, 0.5, 0.8))
    assert targets["t"] == targets["a"] == targets["c"]
    assert targets["b"][2] == pytest.approx(0.5)
    assert targets["b"][1] == pytest.approx(0.2)


def test_the_control_lenses_that_are_defined_for_a_model(tiny):
    model, said = tiny
    controls = {"controls": measure_controls(model, said), "tuned": tuned_lens(model, said)[0]}
    plain, capped = member("a", model.n_layers), member("b", model.n_layers, cap=12.0)
    other = {**controls, "controls": {**controls["controls"], "why_not_masked": "no mask"}}
    found = control_lenses(CONTROL_LENSES, [plain, capped], {"a": controls, "b": other})
    assert [x.label for x in found["a"]] == [x for x in CONTROL_LENSES if x != "uncapped"]
    assert [x.label for x in found["b"]] == [x for x in CONTROL_LENSES if x != "nofirst"]
    assert control_lenses(("final_norm", "raw"), [plain], {"a": {}}) == {"a": ()}


def test_a_tuned_lens_is_kept_and_used_again_and_a_changed_file_is_refused(tiny, tmp_path):
    model, said = tiny

    def never():
        raise AssertionError("what is kept is not computed again")

    first = kept_controls(tmp_path, "k", ("tuned", "nofirst"), lambda: model, lambda: said)
    again = kept_controls(tmp_path, "k", ("tuned", "nofirst"), never, never)
    assert first["tuned"].translators.fingerprint == again["tuned"].translators.fingerprint
    assert first["controls"] == again["controls"]
    assert kept_controls(tmp_path, "k", ("final_norm", "raw"), never, never) == {}
    path = tmp_path / "k.tuned.safetensors"
    assert read_translators(path)[1].n_held_out == 24
    data = bytearray(path.read_bytes())
    data[-5] ^= 255
    path.write_bytes(data)
    with pytest.raises(StudyFileError, match="Delete it"):
        read_translators(path)
    (tmp_path / "k.controls.json").write_text("{")  # damaged: both are made again
    mended = kept_controls(tmp_path, "k", ("tuned", "nofirst"), lambda: model, lambda: said)
    assert mended["controls"] == first["controls"] and data != path.read_bytes()


def test_a_trained_organism_is_read_better_by_its_tuned_lens_on_text_that_took_no_part():
    model = load_organism("organism:llama-512")
    prompts = [f"{a} {b}" for a in ("The", "In", "A", "When", "Where", "She") for b in ("king", "city", "river", "old")]
    said = generate(model, prompts, max_new_tokens=24, sampling=Sampling(0.7), seed=2)
    spec, report = tuned_lens(model, said)
    better = [t < p for p, t in zip(report.held_out_plain, report.held_out_tuned, strict=True)]
    assert all(better), report
    assert all(t <= p for p, t in zip(report.fit_plain, report.fit_tuned, strict=True))
    rows = observe(model, generate(model, ["Once"], max_new_tokens=8), lens=(LensSpec(), spec)).numpy("layers")
    last = rows["layer"] == model.n_layers
    np.testing.assert_array_equal(rows["entropy"][last], rows["entropy__tuned"][last])


def test_how_a_model_was_made_is_declared_or_on_record(tmp_path):
    facts = {"facts": {"cap": None}, "qk_norm": False}
    organism = made_of(Source(source="organism:llama-512"), facts, untrained=False)
    assert (organism["corpus"], organism["training_seed"], organism["capped"]) == ("curated", 1, False)
    assert organism["recipe"].startswith("organism ")
    untrained = made_of(Source(source="organism:llama-512"), facts, untrained=True)
    assert (untrained["corpus"], untrained["recipe"]) == ("", "")
    declared = made_of(Source(source=str(tmp_path), corpus="c4", recipe="mine", capped=True), facts, untrained=False)
    assert (declared["corpus"], declared["recipe"], declared["capped"]) == ("c4", "mine", True)
    (tmp_path / "training.json").write_text(json.dumps({"recipe": {"corpus": "x"}}))
    assert "corpus" not in made_of(Source(source=str(tmp_path)), facts, untrained=False)


@pytest.mark.parametrize(("family", "normed"), [("llama", False), ("qwen3", True)])
def test_qk_norm_is_told_by_the_modules(family, normed):
    assert has_qk_norm(load(build_tiny(family, seed=0), check=False)) is normed
    assert torch.is_grad_enabled()
