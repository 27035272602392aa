"""F5: an effect in the high-capacity region beyond the random band is supported, a like one everywhere is not."""

from dataclasses import replace

import numpy as np

from phaselens.claims import claims_by_id, judge
from phaselens.experiments.causal_regions import evidence, rows_of, unit_weights
from phaselens.experiments.result_tables import TABLES
from phaselens.interventions.outcome_records import Causal

(F5,) = claims_by_id(["F5"])
N, LAYERS = 48, 6


def stored(falls, capacity=(0.1, 0.2, 0.5, 0.95, 1.0, 0.4), random=0.1, identity=0.0, seed=0, name="m"):
    g = np.random.default_rng(seed)
    plain = 2 + 0.3 * g.standard_normal(N)
    own = plain - np.asarray(falls)[:, None] + 0.1 * g.standard_normal((LAYERS, N))
    drawn = plain - random + 0.1 * g.standard_normal((40, LAYERS, N)) * 0.2
    return Causal(
        name,
        "f",
        tuple(range(LAYERS)),
        LAYERS - 1,
        plain,
        np.array(capacity),
        {"probe subspace": own},
        {"equal variance": drawn, "equal rank": drawn},
        np.arange(N) // 2,
        identity,
        2,
        np.ones(3),
        {"probe subspace": np.full((LAYERS, 3), 1.5)},
    )


def verdict(*models):
    found = evidence(models, 0, n_boot=400)
    return judge(F5, found, found.p)


def test_an_effect_of_the_region_is_supported_and_one_everywhere_is_not():
    assert verdict(stored([0.1, 0.1, 0.2, 1.5, 1.5, 0.1])).verdict == "supported"
    assert verdict(stored([1.0] * 6)).verdict == "open"


def test_an_effect_elsewhere_is_rejected_and_inside_the_band_explained_away():
    assert verdict(stored([1.5, 1.5, 1.5, 0.1, 0.1, 1.5])).verdict == "rejected"
    v = verdict(stored([-1.0, -1.0, -1.0, 0.05, 0.05, -1.0]))
    assert v.verdict == "rejected" and v.decided_by == "random subspace of equal variance"


def test_the_mean_over_models_decides_and_one_that_says_the_opposite_leaves_it_open():
    for_it = [stored([0.1, 0.1, 0.2, 1.5, 1.5, 0.1], seed=i, name=f"m{i}") for i in range(3)]
    assert verdict(*for_it).verdict == "supported"
    v = verdict(*for_it, stored([1.0, 1.0, 1.0, 0.3, 0.3, 1.0], seed=9, name="odd"))
    assert v.verdict == "open" and v.decided_by == "each model" and "odd" in v.why
    assert verdict().verdict == "not applicable"


def test_a_hook_that_is_not_neutral_and_a_flat_capacity_decide():
    assert verdict(stored([0.1, 0.1, 0.2, 1.5, 1.5, 0.1], identity=1e-5)).decided_by == "identity null"
    v = verdict(replace(stored([0.1] * 6), capacity=np.ones(6)))
    assert v.verdict == "not applicable" and "both needed" in v.needed


def test_the_embedding_is_no_layer_of_low_capacity_and_few_subspaces_are_no_control():
    early = stored([0.1, 1.5, 1.5, 1.5, 1.5, 1.5], capacity=(0.3, 1, 1, 1, 1, 1))
    assert verdict(early).verdict == "not applicable"
    one = stored([0.1, 0.1, 0.2, 1.5, 1.5, 0.1])
    v = verdict(replace(one, random={k: x[:20] for k, x in one.random.items()}))
    assert v.verdict == "open" and "draw at least 39" in v.why


def test_rows_hold_the_fall_and_the_band():
    one = stored([0.1, 0.1, 0.2, 1.5, 1.5, 0.1])
    rows = rows_of(one, unit_weights(one, 0, 200))
    TABLES["causal"].arrow(rows)
    at = next(r for r in rows if r["arm"] == "probe subspace" and r["layer"] == 3)
    assert abs(at["margin"] - 1.5) < 0.1 and at["outside"] and at["region"] and at["surprisal_elsewhere"] == 0.5
    assert at["band_lo"] < 0.1 < at["band_hi"] + 0.05
