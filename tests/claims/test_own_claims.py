"""A user's own claims: the words come from the declaration, each verdict stands beside its opposite."""

import math

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from phaselens.claims import OWN, OwnClaim, judge_all, lock, registered_own
from phaselens.errors import InputError
from phaselens.experiments.own_evidence import own_evidence, p_of

G = np.random.default_rng(0)
NAMES = [f"m{i}" for i in range(8)]
BASE = {
    "id": "U1",
    "statement": "Trained models turn less.",
    "table": "panel",
    "value": "ct",
    "statistic": "mean",
    "unit": "model",
    "comparison": "above",
    "margin": 1.0,
}


def table(effect=0.0, twin_effect=0.0, noise=0.1):
    """Eight trained models around 1 + effect, and their untrained twins around 1 + twin_effect."""
    g = np.random.default_rng(3)
    trained, twins = (1 + e + noise * g.standard_normal(8) for e in (effect, twin_effect))
    return pa.table(
        {
            "model": NAMES + [f"{n}:untrained" for n in NAMES],
            "twin": [False] * 8 + [True] * 8,
            "ct": np.concatenate([trained, twins]),
            "size": np.concatenate([trained**2, twins]),
            "family": (["a", "b"] * 8),
        }
    )


def verdict(tables, **changes):
    own = OwnClaim.model_validate(BASE | changes)
    claim = registered_own(own)
    (found,) = judge_all([claim], {claim.id: own_evidence(own, tables, {"models": 8})})
    return found


def test_words_and_hash_come_from_the_declaration():
    claim = registered_own(OwnClaim.model_validate(BASE))
    assert claim.seed_doc == OWN and "mean of ct of results/panel.parquet" in claim.statistic
    assert "above 1" in claim.supported and "below 1" in claim.rejected
    other = registered_own(OwnClaim.model_validate(BASE | {"margin": 1.5}))
    assert lock([claim]) != lock([other])
    assert claim.model_dump()["rule"]["margin"] == 1.0


@pytest.mark.parametrize(
    ("effect", "comparison", "margin", "word"),
    [
        (0.5, "above", 1.0, "supported"),
        (-0.5, "above", 1.0, "rejected"),
        (0.0, "above", 1.0, "open"),
        (-0.5, "below", 1.0, "supported"),
        (0.5, "below", 1.0, "rejected"),
    ],
)
def test_above_and_below(effect, comparison, margin, word):
    found = verdict({"panel": table(effect, noise=0.1)}, comparison=comparison, margin=margin)
    assert found.verdict == word and found.n == 8
    assert (found.needed != "") == (word == "open")


@pytest.mark.parametrize(
    ("comparison", "effect", "word"),
    [("inside", 0.0, "supported"), ("inside", 2.0, "rejected"), ("outside", 2.0, "supported")],
)
def test_inside_and_outside_are_about_a_centre(comparison, effect, word):
    assert verdict({"panel": table(effect)}, comparison=comparison, margin=0.5, centre=1.0).verdict == word


def test_untrained_twins_take_no_part_unless_asked():
    assert verdict({"panel": table(0.5, -9)}).verdict == "supported"
    assert verdict({"panel": table(0.5, -9)}, where={"twin": True}).verdict == "rejected"


def test_a_difference_pairs_a_model_with_its_twin():
    groups = {"column": "twin", "first": [False], "second": [True]}
    found = verdict({"panel": table(0.5)}, statistic="difference", groups=groups, margin=0.0)
    assert found.verdict == "supported" and found.n == 8  # eight pairs, not sixteen models
    apart = {"column": "family", "first": ["a"], "second": ["b"]}
    assert verdict({"panel": table(0.5)}, statistic="difference", groups=apart, margin=0.0).n == 8


def test_a_correlation_with_another_column():
    found = verdict({"panel": table(0.0, noise=0.3)}, statistic="correlation", other="size", margin=0.5)
    assert found.verdict == "supported" and found.estimate == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("must", "twin_effect", "word"),
    [
        ("destroy", 0.0, "supported"),
        ("destroy", 0.5, "rejected"),
        ("keep", 0.5, "supported"),
        ("keep", -0.5, "rejected"),
        ("keep", 0.0, "open"),
    ],
)
def test_a_control_decides_and_is_named(must, twin_effect, word):
    control = {"name": "untrained twin", "must": must, "where": {"twin": True}}
    found = verdict({"panel": table(0.5, twin_effect)}, where={"twin": False}, controls=[control])
    assert found.verdict == word
    assert found.decided_by == ("interval" if word == "supported" else "untrained twin")


def test_what_is_not_there_is_not_applicable_and_a_missing_control_is_open():
    found = verdict({"panel": table(0.5)}, value="cct")
    assert found.verdict == "not applicable" and "Did you mean 'ct'" in found.why and found.reasons["estimate"]
    assert verdict({}).verdict == "not applicable"
    assert verdict({"panel": table()}, where={"model": "nobody"}).verdict == "not applicable"
    control = {"name": "elsewhere", "must": "keep", "table": "depth"}
    found = verdict({"panel": table(0.5)}, controls=[control])
    assert (found.verdict, found.decided_by) == ("open", "elsewhere")


def test_one_model_decides_nothing():
    found = verdict({"panel": table(0.5)}, where={"model": "m0"})
    assert found.verdict == "open" and "fewer than two units" in found.why


def test_text_cannot_be_averaged():
    assert "not numbers" in verdict({"panel": table()}, value="family").why


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"statistic": "difference"}, "needs groups"),
        ({"statistic": "correlation"}, "needs other"),
        ({"comparison": "inside", "margin": 0.0}, "needs a margin"),
        ({"unit": "token"}, "model"),
        ({"id": "1 2"}, "pattern"),
        ({"scale": "log", "statistic": "share"}, "says nothing"),
        ({"comparison": "inside", "controls": [{"name": "c", "must": "destroy"}]}, "cannot be destroyed"),
        ({"maximum": 2}, "Extra"),
    ],
)
def test_what_cannot_be_meant_is_refused(changes, says):
    with pytest.raises(ValidationError, match=says):
        OwnClaim.model_validate(BASE | changes)


def test_an_id_of_the_register_is_refused():
    with pytest.raises(InputError, match="one of the register"):
        registered_own(OwnClaim.model_validate(BASE | {"id": "G1"}))


def test_a_null_panel_is_supported_rarely():
    """400 panels without an effect: at most 5 % are supported, and about 5 % decided at all."""
    g = np.random.default_rng(5)
    own = OwnClaim.model_validate(BASE)
    words = []
    for _ in range(400):
        panel = pa.table({"model": NAMES, "ct": 1 + g.standard_normal(8)})
        claim = registered_own(own)
        words.append(judge_all([claim], {"U1": own_evidence(own, {"panel": panel}, {})})[0].verdict)
    assert words.count("supported") / 400 <= 0.05 and 0.02 < (400 - words.count("open")) / 400 < 0.09


def test_p_is_at_the_level_where_the_interval_touches_the_margin():
    from phaselens.statistics.unit_effects import mean_effect

    effect = mean_effect(np.array([1.0, 2.0, 4.0, 3.0, 5.0]))
    own = OwnClaim.model_validate(BASE | {"margin": effect.interval.lo})
    assert p_of(own, effect) == pytest.approx(0.05)
    inside = OwnClaim.model_validate(
        BASE | {"comparison": "inside", "centre": effect.value, "margin": effect.value - effect.interval.lo}
    )
    assert p_of(inside, effect) == pytest.approx(0.05)
    assert math.isnan(p_of(own, mean_effect(np.array([1.0]))))
