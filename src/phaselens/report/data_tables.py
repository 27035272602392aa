"""The tables of the report as data: columns with units, rows in groups, and a numbered reason for every dash."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from phaselens.dynamics.published_figures import REGIMES
from phaselens.report.captions import texts
from phaselens.report.models_shown import Member, of
from phaselens.report.study_files import Folder, Row, records
from phaselens.report.written_values import DASH, defined, estimated, is_number, number, value, visible

NO_REASON = "undefined in the results file, which gives no reason"
ONE_PROMPT = "an interval needs at least two prompts"


@dataclass(frozen=True)
class Cell:
    """What one cell shows: its text, the key it sorts by, the number of its reason (if it is a dash), its style."""

    text: str
    key: str = ""
    note: int | None = None
    kind: str = "num"


@dataclass(frozen=True)
class Column:
    """A column: its heading, the unit under it, its style (`num`, `text`)."""

    title: str
    unit: str = ""
    kind: str = "num"


@dataclass(frozen=True)
class Table:
    """A table: an id for links, a caption, columns, (heading, rows) groups, and the reasons that its dashes refer
    to.
    """

    id: str
    caption: str
    columns: Sequence[Column]
    groups: Sequence[tuple[str, list[list[Cell]]]]
    notes: Sequence[str]


@dataclass
class Reasons:
    """Number the reasons of one table's dashes in the order of their first use."""

    found: list[str] = field(default_factory=list)

    def __call__(self, reason: str) -> int:
        """Give the number of a reason, from 1."""
        if reason not in self.found:
            self.found.append(reason)
        return self.found.index(reason) + 1

    def cell(self, content: object, reason: str = NO_REASON) -> Cell:
        """Write a number, or a dash that refers to the reason."""
        if is_number(content):
            return Cell(number(content, 3), repr(content))
        return Cell(DASH, "", self(reason))

    def estimate(
        self, content: object, low: object, high: object, reason: str = NO_REASON, why: str = ONE_PROMPT
    ) -> Cell:
        """Write a number with its interval; each of the two may be a dash with its reason."""
        if not is_number(content):
            return Cell(DASH, "", self(reason))
        if not (is_number(low) and is_number(high)):
            return Cell(f"{number(content)} {DASH}", repr(content), self(why))
        return Cell(estimated(content, low, high), repr(content))


def declared(
    name: str, groups: Sequence[tuple[str, list[list[Cell]]]], notes: Sequence[str] = (), **facts: object
) -> Table | None:
    """The table of this name in `templates/said.toml`, with its rows and the reasons that its dashes refer to.

    None where it has no rows.
    """
    if not any(lines for _, lines in groups):
        return None
    record = texts()["tables"][name]
    columns = []
    for heading in record["columns"]:
        title, _, unit = heading.removeprefix("*").partition(" | ")
        columns.append(Column(title, unit, "text" if heading.startswith("*") else "num"))
    return Table(
        record.get("id", f"{name}-table"), record["caption"].replace("\n", " ").format(**facts), columns, groups, notes
    )


def name_cell(label: str) -> Cell:
    """Write a name, as the head of its row."""
    return Cell(label, label.lower(), kind="head")


def text_cell(content: object) -> Cell:
    """Write any value as text."""
    written = value(content)
    return Cell(written, written.lower(), kind="text")


def panel(folder: Folder, members: list[Member]) -> Table | None:
    """Build the panel table, one row per model, untrained twins in a group of their own."""
    rows, reasons = folder.rows("panel"), Reasons()
    why = _ratio_reasons(folder)

    def line(member: Member, row: Row) -> list[Cell]:
        few = ONE_PROMPT if is_number(row["n_prompts"]) and row["n_prompts"] < 2 else NO_REASON
        said = why.get(_key(row), NO_REASON)
        return [
            name_cell(member.label),
            text_cell(row["family"]),
            reasons.cell(row["parameters"]),
            _together(row, "n_layers", "d_model", " × "),
            reasons.cell(row["vocab_size"]),
            _together(row, "n_prompts", "n_runs", " / "),
            reasons.cell(row["n_tokens"]),
            reasons.estimate(row["ratio_norm"], row["ratio_norm_lo"], row["ratio_norm_hi"], said, few),
            reasons.estimate(row["GD_ratio"], row["GD_lo"], row["GD_hi"], "mean D is 0 or undefined", few),
            *(reasons.cell(row[c]) for c in ("mean_ct", "frozen_fraction", "collapse_share", "entropy_norm")),
            reasons.cell(row["noise_floor"], "the noise floor was not measured for this model"),
        ]

    return declared("panel", _grouped(members, rows, line), reasons.found)


def _together(row: Row, first: str, second: str, sign: str) -> Cell:
    """Write two counts in one cell, sorted by the first."""
    return Cell(f"{number(row[first])}{sign}{number(row[second])}", repr(row[first]) if is_number(row[first]) else "")


def _key(row: Row) -> tuple[str, bool]:
    return str(row["model"]), bool(row["twin"])


def _ratio_reasons(folder: Folder) -> dict[tuple[str, bool], str]:
    """Give, per model, the reason most of its runs have no ratio_norm."""
    found: dict[tuple[str, bool], Counter] = {}
    for run in folder.rows("regimes_runs"):
        if defined(run["reason"]):
            found.setdefault(_key(run), Counter())[str(run["reason"])] += 1
    return {key: f"runs are without it: {visible(reasons.most_common(1)[0][0])}" for key, reasons in found.items()}


def _grouped(
    members: list[Member], rows: list[Row], line: Callable[[Member, Row], list[Cell]]
) -> list[tuple[str, list[list[Cell]]]]:
    groups = []
    for heading, twin in (("trained", False), ("untrained twins", True)):
        lines = [line(member, row) for member in members if member.twin == twin for row in of(rows, member)]
        if lines:
            groups.append((heading, lines))
    return groups


def regimes(folder: Folder, members: list[Member]) -> Table | None:
    """Build the table behind the phase map: both layers of record, with the shares of published and panel labels."""
    rows, reasons = folder.rows("regimes_models"), Reasons()
    why = _ratio_reasons(folder)

    def line(member: Member, row: Row) -> list[Cell]:
        said = visible(str(row["reason"])) if row.get("reason") else why.get(_key(row), NO_REASON)
        return [
            name_cell(member.label),
            text_cell(row["layer_choice"]),
            reasons.estimate(row["ratio_norm"], row["lo"], row["hi"], said),
            reasons.cell(row["n_prompts"]),
            reasons.cell(row["n_runs"]),
            *(_shares(row, kind, suffix, reasons) for suffix in ("", "_panel") for kind in ("share", "boot_share")),
        ]

    return declared("regimes", _grouped(members, rows, line), reasons.found)


def _shares(row: Row, kind: str, suffix: str, reasons: Reasons) -> Cell:
    """Write the four shares of one labelling in one cell, sorted by the first."""
    shares = [row.get(f"{kind}_{name}{suffix}") for name in REGIMES]
    if not all(is_number(share) for share in shares):
        return reasons.cell(None, "no run of this model has a label")
    return Cell(" / ".join(number(share, 2) for share in shares), repr(shares[0]))


def gd(folder: Folder, members: list[Member]) -> Table | None:
    """Build the table behind the GD panels."""
    rows, reasons = folder.rows("gd_models"), Reasons()

    def line(member: Member, row: Row) -> list[Cell]:
        few = ONE_PROMPT if is_number(row["n_prompts"]) and row["n_prompts"] < 2 else NO_REASON
        said = visible(str(row.get("reason") or "undefined for this version"))
        return [
            name_cell(member.label),
            *(text_cell(row[c]) for c in ("version", "lens", "control")),
            reasons.cell(row["G"], said),
            reasons.cell(row["D"], said),
            reasons.estimate(row["GD_ratio"], row["lo"], row["hi"], said, few),
            reasons.cell(row["n_prompts"]),
            reasons.cell(row["n_runs"]),
        ]

    return declared("gd", _grouped(members, rows, line), reasons.found)


def separation(folder: Folder) -> Table | None:
    """Build the table of the S tests."""
    rows, reasons = records(folder.results.get("separation")), Reasons()

    def line(row: Row) -> list[Cell]:
        said = visible(str(row.get("reason") or "fewer than four models have this number"))
        powers = [row.get(f"power_{gap}") for gap in (6, 8, 10)]
        power = Cell(" / ".join(number(p, 2) for p in powers), repr(powers[1])) if all(map(is_number, powers)) else None
        return [
            Cell(visible(str(row.get("claim", DASH))), kind="head"),
            text_cell(row.get("version")),
            reasons.estimate(row.get("S"), row.get("lo"), row.get("hi"), said, said),
            *(reasons.cell(row.get(c), said) for c in ("critical", "p", "S_without_twins", "p_without_twins", "M")),
            power or reasons.cell(None, said),
            Cell(_split(row.get("groups")), kind="text"),
        ]

    return declared("separation", [("", [line(row) for row in rows])], reasons.found)


def subpanels(folder: Folder) -> Table | None:
    """Build the table of the claims judged again on smaller panels."""
    rows, reasons = folder.rows("subpanels"), Reasons()
    keys = ("found", "n_supported", "n_rejected", "n_open", "n_not_applicable", "n_panels", "size")
    lines = [
        [Cell(visible(str(r["claim"])), kind="head"), text_cell(r["full"]), *(reasons.cell(r[k]) for k in keys)]
        for r in rows
    ]
    return declared("subpanels", [("", lines)], reasons.found)


def _split(groups: object) -> str:
    """Write the groups of a split, from a mapping of model to group."""
    if not isinstance(groups, dict):
        return value(groups)
    named = {model: value(own) for model, own in groups.items()}
    each = [[visible(str(model)) for model, own in named.items() if own == one] for one in sorted(set(named.values()))]
    return " | ".join(map(", ".join, each)) or value(groups)


def temperature(folder: Folder) -> Table | None:
    """Build the table of the common temperature."""
    rows, reasons = records(folder.results.get("temperature")), Reasons()
    keys = ("T", "entropy_before", "entropy_after", "target")
    lines = [
        [
            name_cell(visible(str(row.get("model", DASH)))),
            *(reasons.cell(row.get(k), str(row.get("reason") or NO_REASON)) for k in keys),
        ]
        for row in rows
    ]
    return declared("temperature", [("", lines)], reasons.found)
