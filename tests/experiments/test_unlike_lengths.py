"""Runs of unlike length: every experiment takes them, says what was too short, and lengths alone decide no claim."""

import dataclasses
import math

import numpy as np
import pytest

from phaselens.claims import OwnClaim, registered_own
from phaselens.experiments import EXPERIMENTS, ModelData, ModelInfo, Panel
from phaselens.experiments.equal_lengths import cut, equal_lengths, length_notes, limits_of
from phaselens.observables import DEFAULT
from phaselens.studies.conclude import Wanted, verdicts

STEPS, LAYERS, PROMPTS, SAMPLES = 72, 6, 12, 2
LENSES = ("", "__raw", "__tmatch", "__shared")


def simulated(name, generator, *, steps=STEPS, prompts=PROMPTS, pairs=True, **info):
    """A model with every default column: independent draws within the bounds of each."""
    ids = [f"p{i}" for i in range(prompts)] if pairs else [f"q{i}/{r}" for i in range(prompts) for r in READINGS]
    ids = np.repeat(ids, SAMPLES if pairs else 1)
    n = len(ids)
    tables = {}
    for per, shape in (("step", (n, steps)), ("layer", (n, steps, LAYERS + 1))):
        keys = ("run", "step", "layer")[: len(shape)]
        table = dict(zip(keys, (x.ravel() for x in np.indices(shape)), strict=True))
        for one in (o for o in DEFAULT if o.per in ("layer", per)):
            low, high = one.bounds or (0.0, 3.0)
            low = low if math.isfinite(low) else -3.0
            high = high if math.isfinite(high) else low + 3
            for lens in LENSES if per == "layer" else ("",):
                values = low + (high - low) * generator.random(shape)
                values[:, : one.lookback or 0] = np.nan
                table[one.name + lens] = (np.round(values) if one.dtype != "float" else values).ravel()
        tables["steps" if per == "step" else "layers"] = table
    category = np.array(["factual", "arithmetic", "science"])[np.arange(n) // (SAMPLES * 4) % 3]
    runs = {
        "run": np.arange(n),
        "prompt_id": ids,
        "category": category,
        "arm": np.full(n, "t0.7"),
        "sample": np.arange(n) % SAMPLES,
        "calibration": np.arange(n) >= n - 4 * SAMPLES * pairs,
        "n_prompt": np.full(n, 9),
        "n_generated": np.full(n, steps),
        "finish": np.full(n, "length"),
        "correct": generator.integers(0, 2, n).astype(float),
        "prompt": ids,
        "answered": ids,
        "tag": np.array(["1 step", "2 steps"])[np.arange(n) // SAMPLES % 2],
    }
    facts = {"family": "f", "n_layers": LAYERS, "d_model": 16, "vocab_size": 50, "parameters": 1000} | info
    said = tuple(tuple(row) for row in generator.integers(0, 50, (n, steps)).tolist())
    own = simulated(name, generator, pairs=False, prompts=4, steps=steps) if pairs else None
    return ModelData(
        ModelInfo(name, **facts), runs, **tables, completions=said, word_start_tokens=frozenset(range(9)), pairs=own
    )


READINGS = ("ambiguous", "first", "second")


def ended(model, lengths):
    """The same runs, each ended by the model itself after so many tokens; 0: nothing was said."""
    lengths = np.asarray(lengths)
    keep = {t: np.asarray(getattr(model, t)["step"]) < lengths[getattr(model, t)["run"]] for t in ("steps", "layers")}
    tables = {t: {k: np.asarray(v)[keep[t]] for k, v in getattr(model, t).items()} for t in keep}
    runs = {**model.runs, "n_generated": lengths, "finish": np.full(len(lengths), "eos")}
    said = tuple(c[:n] for c, n in zip(model.completions, lengths, strict=True))
    pairs = model.pairs and ended(model.pairs, np.resize(lengths, len(model.pairs.runs["run"])))
    return dataclasses.replace(model, runs=runs, **tables, completions=said, pairs=pairs)


def panel_of(lengths, models=4):
    generator = np.random.default_rng(0)
    made = [simulated(f"m{i}", generator, family="fg"[i % 2]) for i in range(models)]
    made.append(simulated("m0 (untrained)", generator, twin=True, twin_of="m0"))
    n = len(made[0].runs["run"])
    return Panel(tuple(ended(m, lengths(generator, n)) for m in made), n_boot=60, subpanels=2)


def unlike(generator, n):
    lengths = generator.integers(1, 61, n)
    lengths[:3] = 0, 1, 60
    return lengths


@pytest.fixture(scope="module")
def panels():
    return panel_of(unlike), panel_of(lambda generator, n: np.full(n, STEPS))


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda e: e.name)
def test_every_experiment_takes_runs_of_1_to_60_tokens_and_empty_ones(panels, experiment):
    ragged, whole = (experiment.function(panel) for panel in panels)
    assert set(ragged.evidence) == set(whole.evidence) and set(ragged.tables) == set(whole.tables)
    for found in ragged.evidence.values():
        decision = found.decide(found.p)
        assert decision.word != "rejected" or math.isfinite(found.numbers().estimate)
        assert decision.why
    for name, table in ragged.tables.items():
        rows = table.to_pylist()
        for row in rows if "reason" in table.column_names else ():
            if {"lo", "hi"} <= row.keys() and not (row["lo"] == row["lo"] and row["lo"] is not None):
                assert row["reason"], (name, row)


def test_the_common_length_is_what_three_quarters_of_every_models_runs_reach():
    a, b = (simulated(n, np.random.default_rng(1)) for n in "ab")
    n = len(a.runs["run"])
    short = np.resize([20, 40, 50, 60], n)
    models = ended(a, short), ended(b, np.full(n, 60))
    assert limits_of(models) == {"t0.7": 20}
    assert limits_of((a, b)) == {} and equal_lengths(Panel((a, b))) is None
    panel = Panel((ended(a, np.where(np.arange(n) == 1, 5, short)), models[1]))
    equal = equal_lengths(panel)
    assert equal.words == f"the first 20 tokens of each run; 1 of {int(2 * a.measured.sum())} runs are shorter"
    for model in equal.panel.models:
        assert set(model.runs["n_generated"]) == {20} and {len(c) for c in model.completions} == {20}
        assert model.per_step("entropy").shape[1] == 20 and np.isfinite(model.per_step("rank")).all()
    notes = length_notes(panel, equal)
    assert "5 to 60 tokens" in notes[0] and "1 for equal lengths (8 tokens)" in notes[0]
    assert f"{int(2 * a.measured.sum())} for ratio_norm (66 tokens)" in notes[0]
    assert length_notes(Panel((a, b)), None) == ()


def test_a_cut_run_is_the_beginning_of_the_run():
    model = simulated("a", np.random.default_rng(2))
    part = cut(model, np.full(len(model.runs["run"]), 30))
    for of in (ModelData.per_layer, ModelData.per_step):
        assert np.array_equal(of(part, "instability"), of(model, "instability")[:, :30], equal_nan=True)
    assert set(part.runs["finish"]) == {"length"} and part.completions[0] == model.completions[0][:30]


def falling(name, generator, *, scale):
    """A model whose instability falls along the run: a mean over a whole run depends on its length alone."""
    model = simulated(name, generator)
    step = np.asarray(model.layers["step"])
    ct = scale * np.exp(-step / 15) * (1 + 0.05 * generator.standard_normal(len(step)))
    return dataclasses.replace(model, layers={**model.layers, "instability": np.where(step < 2, np.nan, ct)})


RULE = {
    "id": "U1",
    "statement": "The b models move less than the a models.",
    "table": "panel",
    "value": "mean_ct",
    "statistic": "difference",
    "unit": "model",
    "comparison": "above",
    "margin": 0.0,
    "where": {"twin": False},
    "groups": {"column": "family", "first": ["a"], "second": ["b"]},
}


@pytest.mark.parametrize("case", ["length alone", "beyond length", "too short"])
def test_a_verdict_that_length_makes_is_open_and_one_beyond_it_stands(case):
    generator = np.random.default_rng(3)
    models = []
    for i in range(12):
        family = "ab"[i % 2]
        model = falling(f"m{i}", generator, scale=0.6 if family == "b" and case != "length alone" else 1.0)
        n = len(model.runs["run"])
        low, high = (6, 8) if case == "too short" else (20, 31) if family == "a" else (45, 61)
        model = dataclasses.replace(model, info=dataclasses.replace(model.info, family=family), pairs=None)
        models.append(ended(model, generator.integers(low, high, n)))
    own = registered_own(OwnClaim.model_validate(RULE))
    wanted = Wanted(0, 100, (), (), registered=(own,))
    result, (row,) = verdicts(Panel(tuple(models), n_boot=100), wanted, (own,), {}, ["U1"])
    assert "runs of unlike length" in result.notes[0]
    if case == "beyond length":
        assert row["verdict"] == "supported" and "the same at equal lengths" in row["why"]
    else:
        assert row["verdict"] == "open" and row["decided_by"] == "equal lengths"
        assert "over whole runs supported" in row["why"] and row["needed"]
    if case == "too short":
        assert "not possible" in result.notes[1] and "cannot be told" in row["why"]
