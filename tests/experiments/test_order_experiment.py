"""R2, R3, S4 and S8: planted orders and interactions are found, their absence is not, missing arms are named."""

import numpy as np
import pytest

from phaselens.claims import claims_by_id, judge_all
from phaselens.dynamics.stability import spearman
from phaselens.experiments import Panel
from phaselens.experiments.conditions import CONDITIONS, analyse_conditions, conditions_evidence, load
from phaselens.experiments.model_order import ORDERS, analyse_order, order_evidence
from phaselens.validity import simulated_order as simulated
from phaselens.validity import simulated_variance as shares


def verdict(evidence, claim, panel):
    (found,) = judge_all(claims_by_id([claim]), evidence(panel, (claim,)))
    return found


def rng(seed=0):
    return np.random.default_rng(seed)


def test_spearman_is_that_of_scipy():
    from scipy.stats import spearmanr

    x, y = rng().integers(0, 6, (2, 5, 12))
    for a, b, found in zip(x, y, spearman(x, y), strict=True):
        assert found == pytest.approx(spearmanr(a, b).statistic)
    assert np.isnan(spearman(np.ones(4), np.arange(4)))


def test_r2_one_order_is_supported_two_orders_are_not():
    same = shares.with_shares(rng(1), model=0.5, category=0.1, prompt=0.1, residual=0.3)
    assert verdict(order_evidence, "R2", same).verdict == "supported"
    other = shares.with_shares(rng(1), model=0.3, model_category=0.4, residual=0.3)
    assert verdict(order_evidence, "R2", other).verdict == "rejected"
    alike = verdict(order_evidence, "R2", shares.with_shares(rng(1), category=0.4, residual=0.6))
    assert alike.verdict == "open" and alike.decided_by == "W_ceiling"


def test_r3_over_temperatures_and_windows():
    assert verdict(order_evidence, "R3", simulated.of_conditions(rng(1))).verdict == "supported"
    fallen = verdict(order_evidence, "R3", simulated.of_conditions(rng(1), moved=0.0))
    assert fallen.verdict == "rejected" and "t1" in fallen.why
    alike = verdict(order_evidence, "R3", simulated.of_conditions(rng(1), gap=0.0))
    assert alike.verdict == "open" and alike.decided_by == "an order to compare"


def test_r3_says_which_arms_and_lengths_are_missing():
    panel = shares.with_shares(rng(), models=3, prompts=2, residual=1.0)
    found = verdict(order_evidence, "R3", panel)
    assert found.verdict == "not applicable"
    assert "temperature = 0.1, 0.4, 1" in found.needed and "max_new_tokens >= 194" in found.needed
    assert analyse_order(panel).tables["order_stability"].num_rows == 0


def test_a_moved_order_is_as_near_as_asked():
    for wanted in (0.69, 0.0):
        found = spearman(np.arange(8), simulated.reordered(8, wanted, rng()))
        assert wanted - 0.05 <= found <= wanted


def test_order_tables_have_ranks_of_every_model_in_every_category():
    rows = analyse_order(shares.with_shares(rng(), models=4, prompts=3, model=0.5, residual=0.5)).tables
    ranks = [r for r in rows["order_ranks"].to_pylist() if r["measure"] == "ln ratio_norm" and r["category"] == "open"]
    assert sorted(r["rank"] for r in ranks) == [1, 2, 3, 4]
    assert all(r["lo"] <= r["mean"] <= r["hi"] for r in ranks)
    assert [r["measure"] for r in rows["order_consistency"].to_pylist()] == ["ln ratio_norm", "ln mean ct"]


def test_s4_needs_every_factor():
    found = verdict(conditions_evidence, "S4", simulated.of_layers(rng(2), category=0.2, band=0.2))
    assert found.verdict == "supported", found.why
    rows = analyse_conditions(simulated.of_layers(rng(2), category=0.0, band=0.2)).tables["interactions"].to_pylist()
    own = {(r["factor"], r["measure"]): r for r in rows}
    assert own["layer band", "ln mean ct"]["lo"] > 0 and own["category", "ln mean ct"]["lo"] < 0
    assert own["normalisation", "ln ratio_norm"]["levels"] == "unit, values clipped_mad"
    flat = verdict(conditions_evidence, "S4", shares.with_shares(rng(), model=0.5, residual=0.5))
    assert flat.verdict == "open" and flat.decided_by == "every factor" and "four layers" in flat.needed


def test_s8_families_that_swing_are_found_and_seeds_are_dropped_once():
    assert verdict(conditions_evidence, "S8", shares.with_loads(rng(1), slope=3.0)).verdict == "supported"
    assert verdict(conditions_evidence, "S8", shares.with_loads(rng(1), slope=0.0)).verdict == "open"
    panel = shares.with_loads(rng(1), slope=0.0, members=1, families=4, seeds=4)
    found = verdict(conditions_evidence, "S8", panel)
    assert found.verdict == "not applicable" and "two families" in found.needed
    panel = shares.with_loads(rng(1), slope=0.0, members=2, families=3, seeds=4)
    found = verdict(conditions_evidence, "S8", panel)
    assert found.verdict == "open" and [c["name"] for c in found.controls] == ["seed twins"]


def test_load_is_steps_of_derivation_where_tags_say_so_else_category():
    assert load(shares.with_loads(rng(), slope=0.0)).cells.categories == ("1", "2", "3")
    other = load(shares.with_shares(rng(), models=2, prompts=2, residual=1.0))
    assert other.what == "category" and other.cells.categories == shares.CATEGORIES


@pytest.mark.parametrize("experiment", [ORDERS, CONDITIONS], ids=lambda e: e.name)
@pytest.mark.parametrize("models", [0, 1, 2])
def test_small_panels_are_judged_without_a_crash(experiment, models):
    whole = shares.with_shares(rng(), models=2, prompts=2, residual=1.0)
    result = experiment.function(Panel(whole.models[:models], n_boot=100))
    assert set(result.tables) == {table.name for table in experiment.tables}
    for found in judge_all(claims_by_id(experiment.claims), result.evidence):
        assert found.verdict in ("open", "not applicable") and found.needed, found
