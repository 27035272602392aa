"""Growth over prompts: means and intervals of planted rates, the stream taken out, curves that add up."""

import numpy as np
import pytest

from phaselens.experiments.growth import EXCESS, analysed
from phaselens.interventions.outcome_records import Growth

L, K, STEPS = 4, 2, 6


def stored(rate, stream, slope, *, name="m", n=12, spread=0.0, seed=0):
    noise = np.random.default_rng(seed).normal(0, spread, n)
    by_block = np.broadcast_to((rate + noise)[:, None, None, None], (n, 3, L, K)).copy()
    by_block[..., 1] -= 0.5
    by_step = slope * np.arange(STEPS, dtype=float) + np.zeros((n, 1))
    return Growth(
        name,
        "f",
        L,
        tuple(f"p{i}" for i in range(n)),
        by_block,
        np.full((n, 3, L), stream),
        by_block.mean(axis=2),
        by_step,
        np.full(n, slope),
        np.full(n, 1e-3),
    )


def rows(result, name):
    return result.tables[name].to_pylist()


def test_planted_rates_come_back_with_the_stream_taken_out():
    found = {r["what"]: r for r in rows(analysed([stored(0.7, 1.0, -0.05)], 0), "growth")}
    assert found["exponent along depth"]["value"] == pytest.approx(0.7)
    assert found["exponent along depth, direction 2"]["value"] == pytest.approx(0.2)
    assert found["growth of the stream"]["value"] == pytest.approx(1.0)
    assert found[EXCESS]["value"] == pytest.approx(-0.3) and found[EXCESS]["unit"] == "nats per block"
    assert found["exponent along tokens"]["value"] == pytest.approx(-0.05)
    assert found["exponent along tokens"]["unit"] == "nats per token" and found[EXCESS]["n_prompts"] == 12


def test_intervals_are_over_prompts():
    wide, narrow = (rows(analysed([stored(0.7, 1.0, 0.0, spread=0.2, n=n)], 0), "growth")[0] for n in (12, 300))
    assert wide["lo"] < 0.7 < wide["hi"] and wide["hi"] - wide["lo"] > 3 * (narrow["hi"] - narrow["lo"])


def test_curves_add_blocks_up_and_end_where_the_exponent_says():
    curves = rows(analysed([stored(0.7, 1.0, -0.05)], 0), "growth_curves")
    depth = [r["value"] for r in curves if r["along"] == "depth"]
    assert (
        np.allclose(depth, -0.3 * np.arange(L + 1)) and [r["depth"] for r in curves if r["along"] == "depth"][-1] == 1
    )
    assert np.allclose([r["value"] for r in curves if r["along"] == "tokens"], -0.05 * np.arange(STEPS))


def test_steps_that_no_run_has_are_undefined_and_no_model_gives_empty_tables():
    short = stored(0.7, 1.0, -0.05)
    short.by_step[:, 4:] = np.nan
    last = [r for r in rows(analysed([short], 0), "growth_curves") if r["along"] == "tokens"][-1]
    assert np.isnan(last["value"]) and np.isnan(last["lo"])
    assert {name: table.num_rows for name, table in analysed([], 0).tables.items()} == {"growth": 0, "growth_curves": 0}
