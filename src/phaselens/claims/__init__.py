"""The ledger: claims registered before the data, the rules that judge them, and the verdicts.

A claim is data, frozen and hashed; `lock` goes into the manifest before anything is generated. `judge` maps evidence
to one of four verdicts: supported (its rule met and every control survived), rejected (its rejection region met, or a
control explains it away: the control is named), open (neither; what would settle it is said), not applicable (the
panel lacks what it is about).
"""

from phaselens.claims.declared import REGISTER
from phaselens.claims.flag_rule import FlagEvidence
from phaselens.claims.interval_rule import IntervalEvidence, Region, above, below, inside, outside
from phaselens.claims.ledger import claims_by_id, corrected_together, held_against, judge, judge_all, ledger_rows, lock
from phaselens.claims.overruling import Requirement
from phaselens.claims.own_claims import OWN, OwnClaim, RegisteredOwn, registered_own
from phaselens.claims.permutation_rule import PermutationEvidence
from phaselens.claims.split_rule import (
    ENOUGH_POWER,
    HALF,
    NO_SEPARATION,
    SMALLEST_GAP,
    SplitEvidence,
    absent_in_twins,
    survives,
)
from phaselens.claims.verdict_records import LEVEL, Claim, Decision, Evidence, Numbers, Outcome, Verdict
