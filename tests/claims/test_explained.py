"""Every claim explains itself: no empty part, the family named, and terms only where the claim uses them."""

import pytest

from phaselens.claims import REGISTER, claims_by_id
from phaselens.claims.declared import POWER
from phaselens.claims.explain import explain
from phaselens.experiments import EXPERIMENTS
from phaselens.validity import SCENARIOS

# The table of the ledger: every claim stands in the register.
LEDGER = (
    "R1 R2 R3 R4 R5 R6 R7 R8 N1 V1 V2 V3 T1 T2 C1 X1 X2 X3 X4 S1 S2 S3 S4 S5 S6 S7 S8 G1 G2 G3 G4 G5 G6 G7 G8 G9 G10 "
    "P1 F0 F1 F2 F3 F4 F5 A1 A2 A3 A4 A5"
).split()

# Claims of papers by others, registered beside the ledger.
PAPERS = ("O1", "O2", "O3")


def test_the_register_is_the_ledger_and_no_claim_is_judged_twice():
    ids = [c.id for c in REGISTER]
    assert sorted(ids) == sorted([*LEDGER, *PAPERS])
    judged = [claim for e in EXPERIMENTS for claim in e.claims]
    assert len(set(judged)) == len(judged) and set(judged) <= set(ids)


@pytest.mark.parametrize("claim", REGISTER, ids=lambda c: c.id)
def test_every_claim_is_explained(claim):
    parts = {p.heading: p.lines for p in explain(claim, REGISTER)}
    assert all(lines and all(line.strip() for line in lines) for lines in parts.values())
    assert claim.statement in parts["What is claimed"] and (claim.after or claim.id) in parts["Correction"][0]
    assert len(parts["What could fool it"]) == max(1, len(claim.controls))


def test_cards_say_how_often_a_rule_finds_its_effect():
    """Every claim with a simulated effect; one that finds it in less than 80 % says what would be enough."""
    simulated = {c for s in SCENARIOS if s.headline for c in s.claims}
    assert set(POWER) <= simulated
    (v1,) = claims_by_id(["V1"])
    assert POWER["V1"] in {p.heading: p.lines for p in explain(v1, REGISTER)}["How often it finds what is there"]


def test_terms_are_those_of_the_claim():
    (g2,) = claims_by_id(["G2"])
    terms = dict(line.split(": ", 1) for line in {p.heading: p.lines for p in explain(g2, REGISTER)}["In other words"])
    assert {"S test", "GD_ratio"} <= set(terms) and "AUROC" not in terms
