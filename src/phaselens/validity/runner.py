"""Judge many simulated studies by the code that judges real ones, and count what it says."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from scipy.stats import binomtest

from phaselens.claims import REGISTER
from phaselens.errors import InputError, unknown_name
from phaselens.statistics.intervals import Interval, undefined_interval
from phaselens.validity.scenario import Scenario

GOAL = 0.05
STUDIES = 200
QUICK_STUDIES = 30
SHARE = 4
BLOCK = 10
# For each claim, one entry a study: the verdict, what decided it, and whether it counts as a hit of the rate.
Rulings = dict[str, list[tuple[str, str, bool]]]
VERDICTS = ("supported", "rejected", "open", "not applicable")


@dataclass(frozen=True)
class Tally:
    """What the rule of one claim said in the studies of one scenario.

    `hits` counts what the rate is of: the scenario's word, or, for the kind "unmoved", verdicts that differ from those
    of the same studies without the artefact. `decided_by` counts what decided, for each verdict.
    """

    scenario: str
    claim: str
    bound: bool
    n: int
    hits: int
    verdicts: Mapping[str, int]
    decided_by: Mapping[str, Mapping[str, int]]

    @property
    def rate(self) -> float:
        """Share of the studies (proportion); NaN where there are none."""
        return self.hits / self.n if self.n else math.nan

    @property
    def interval(self) -> Interval:
        """Wilson interval of the rate."""
        return wilson(self.hits, self.n)


def wilson(hits: int, trials: int) -> Interval:
    """Wilson 95 % interval of a proportion (1). NaN: no trials. Source: Wilson 1927; computed by SciPy."""
    if not trials:
        return undefined_interval("no trials")
    bounds = binomtest(hits, trials).proportion_ci(0.95, method="wilson")
    return Interval(float(bounds.low), float(bounds.high))


def chosen(scenarios: Sequence[Scenario], claims: Sequence[str]) -> tuple[Scenario, ...]:
    """The scenarios that bind any of these claims, all where none is named.

    Raises UnknownNameError for a claim without a scenario.
    """
    known = {claim for s in scenarios for claim in s.claims}
    for claim in claims:
        if claim not in known:
            raise unknown_name("claim with a scenario", claim, known)
    return tuple(s for s in scenarios if not claims or set(s.claims) & set(claims))


def studies_of(scenario: Scenario, scenarios: Sequence[Scenario], studies: int, *, quick: bool = False) -> int:
    """How many studies of a scenario are drawn (count): `studies` of each.

    `quick`: a claim's studies at the null are spread over its null scenarios; the headline effect gets as many, each
    other effect and artefact a quarter of that.
    """
    if not quick:
        return studies
    if scenario.kind != "null":
        return studies if scenario.headline else math.ceil(studies / SHARE)
    alike = sum(s.kind == "null" and bool(set(s.claims) & set(scenario.claims)) for s in scenarios)
    return math.ceil(studies / alike)


def rulings_of(scenario: Scenario, studies: Sequence[int], seed: int) -> Rulings:
    """What the rules said in these studies of a scenario, claim by claim and in the order of the studies.

    Study k has its own generator of (seed, scenario, k), so more studies only add to the ones before, and any process
    may draw any of them.
    """
    said: Rulings = {claim: [] for claim in (*scenario.claims, *scenario.shown)}
    for k in studies:

        def generator(k: int = k) -> np.random.Generator:
            return np.random.default_rng([seed & 0xFFFFFFFF, k, *scenario.id.encode()])

        found = scenario.judge(scenario.make(generator()))
        plain = found if scenario.without is None else scenario.judge(scenario.without(generator()))
        for claim, rulings in said.items():
            verdict, decided_by = found[claim].verdict, found[claim].decided_by
            moved = verdict != plain[claim].verdict
            rulings.append((verdict, decided_by, moved if scenario.kind == "unmoved" else verdict == scenario.word))
    return said


def tally(scenario: Scenario, studies: int, seed: int) -> tuple[Tally, ...]:
    """Draw and judge the first studies of one scenario; one tally per claim."""
    said = rulings_of(scenario, range(studies), seed)
    return tuple(_counted(scenario, claim, rulings) for claim, rulings in said.items())


def blocks_of(scenario: Scenario, studies: int) -> list[tuple[Scenario, range]]:
    """The studies of a scenario in blocks of 10: what a process takes at a time, and what a killed run keeps."""
    return [(scenario, range(first, min(first + BLOCK, studies))) for first in range(0, studies, BLOCK)]


def name_of(block: tuple[Scenario, range]) -> str:
    """What a block is called among the kept ones."""
    return f"{block[0].id} / {block[1].start} to {block[1].stop}"


def _counted(scenario: Scenario, claim: str, rulings: Sequence[Sequence]) -> Tally:
    verdicts = Counter(verdict for verdict, *_ in rulings)
    by = {word: dict(Counter(by for verdict, by, _ in rulings if verdict == word).most_common()) for word in verdicts}
    return Tally(
        scenario.id,
        claim=claim,
        bound=claim in scenario.claims,
        n=len(rulings),
        hits=sum(hit for *_, hit in rulings),
        verdicts={word: verdicts.get(word, 0) for word in dict.fromkeys((*VERDICTS, *verdicts))},
        decided_by=by,
    )


def in_turn(do: Callable[[int, Callable], Rulings], n: int, hear: Callable[..., None]) -> list[Rulings]:
    """`do(0, say) .. do(n - 1, say)`, one after the other and here; `say(*values)` is heard as `hear(i, *values)`."""
    return [do(i, lambda *said, i=i: hear(i, *said)) for i in range(n)]


def validate(
    scenarios: Sequence[Scenario],
    *,
    claims: Sequence[str] = (),
    studies: int = STUDIES,
    seed: int = 0,
    quick: bool = False,
    progress: Callable[[str], None] = lambda line: None,
    spread: Callable[..., list[Rulings]] = in_turn,
    kept: Mapping[str, Rulings] = MappingProxyType({}),
    keep: Callable[[str, Rulings], None] = lambda name, rulings: None,
) -> dict:
    """Run the scenarios and give the document of `phaselens validate`: plain JSON values, deterministic.

    `studies` are those of every scenario, shared out where it is `quick` (`studies_of`).

    `spread(do, n, hear)` does the blocks, here or in several processes; `kept` holds the blocks of a run that was ended
    early, and `keep(name, rulings)` hears of each finished one. None of the three moves a number.

    Raises InputError for fewer than one study, UnknownNameError for a claim without a scenario.
    """
    if studies < 1:
        raise InputError(f"at least one simulated study is needed; got --studies {studies}.")
    wanted = chosen(scenarios, claims)
    blocks = [block for s in wanted for block in blocks_of(s, studies_of(s, scenarios, studies, quick=quick))]
    said: dict[str, Rulings] = {name: kept[name] for name in map(name_of, blocks) if name in kept}
    todo = [block for block in blocks if name_of(block) not in said]
    owed = Counter(s.id for s, _ in todo)

    def do(i: int, say: Callable) -> Rulings:
        say(found := rulings_of(*todo[i], seed))
        return found

    def hear(i: int, found: Rulings) -> None:
        said[name_of(todo[i])] = found
        keep(name_of(todo[i]), found)
        scenario = todo[i][0]
        owed[scenario.id] -= 1
        if not owed[scenario.id]:
            progress(f"{scenario.id}: {studies_of(scenario, scenarios, studies, quick=quick)} studies")

    spread(do, len(todo), hear)
    tallies = [
        _counted(s, claim, [one for block in blocks if block[0] is s for one in said[name_of(block)][claim]])
        for s in wanted
        for claim in (*s.claims, *s.shown)
    ]
    return document(wanted, tallies, claims, studies, seed)


def document(
    scenarios: Sequence[Scenario], tallies: Sequence[Tally], claims: Sequence[str], studies: int, seed: int
) -> dict:
    """The document of `phaselens validate` from the tallies of the scenarios: plain JSON values."""
    named = set(claims) or {claim for s in scenarios for claim in s.claims}
    order = dict.fromkeys(t.claim for t in tallies if t.claim in named)
    return {
        "seed": seed,
        "studies": studies,
        "goal": GOAL,
        "claims": {claim: _claim(claim, scenarios, [t for t in tallies if t.claim == claim]) for claim in order},
        "without_scenario": [] if claims else [c.id for c in REGISTER if c.id not in order],
    }


def _claim(claim: str, scenarios: Sequence[Scenario], tallies: Sequence[Tally]) -> dict:
    """One claim of the document: error rate over all its nulls, power at the headline effect, every scenario."""
    known = {s.id: s for s in scenarios}
    nulls = [t for t in tallies if known[t.scenario].kind == "null" and t.bound]
    hits, n = sum(t.hits for t in nulls), sum(t.n for t in nulls)
    head = next((t for t in tallies if known[t.scenario].headline and t.bound), None)
    rows = [_row(known[t.scenario], t) for t in tallies]
    return {
        "false_positive_rate": hits / n if n else None,
        "false_positive_interval": _bounds(wilson(hits, n)),
        "false_rejection_rate": max((r["rejection_rate"] for r in rows if r["kind"] == "effect"), default=None),
        "power": None if head is None else head.rate,
        "power_interval": None if head is None else _bounds(head.interval),
        "power_at": None if head is None else known[head.scenario].size,
        "n": n,
        "n_power": 0 if head is None else head.n,
        "fails": [r["id"] for r in rows if r["holds"] is False],
        "scenarios": rows,
    }


def _row(scenario: Scenario, t: Tally) -> dict:
    named = sum(by.get(scenario.control, 0) for by in t.decided_by.values()) if scenario.control else None
    denied = _denied(scenario, t)
    return {
        "id": scenario.id,
        "kind": scenario.kind if t.bound else "shown",
        "planted": scenario.planted,
        "size": scenario.size,
        "control": scenario.control,
        "n": t.n,
        "rate": t.rate,
        "interval": _bounds(t.interval),
        "verdicts": dict(t.verdicts),
        "decided_by": {word: dict(by) for word, by in t.decided_by.items()},
        "rejection_rate": denied / t.n if t.n else None,
        "rejection_interval": _bounds(wilson(denied, t.n)),
        "named": named if t.bound else None,
        "holds": _holds(scenario, t),
    }


def _holds(scenario: Scenario, t: Tally) -> bool | None:
    """Whether the rate may lie at or below 5 % (lower bound).

    An effect fails where a power above 5 % is excluded, and where its opposite is said in more than 5 % of the studies
    (lower bound). None: the scenario does not bind this claim.
    """
    if not t.bound:
        return None
    if scenario.kind == "effect":
        return t.interval.hi > GOAL and wilson(_denied(scenario, t), t.n).lo <= GOAL
    return t.interval.lo <= GOAL


def _denied(scenario: Scenario, t: Tally) -> int:
    """Studies in which the rule said the opposite of what is true there (count)."""
    return t.verdicts.get("supported" if scenario.word == "rejected" else "rejected", 0)


def _bounds(interval: Interval) -> list[float] | None:
    return None if interval.reason else [interval.lo, interval.hi]
