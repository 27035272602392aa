"""A user's own claim: declared in TOML over the tables of `results/`, judged by the machinery that judges ours.

    [[claims]]
    id = "U1"
    statement = "Trained models turn less from token to token than untrained ones."
    table = "panel"                          # results/panel.parquet
    value = "mean_ct"                        # the column that is read
    statistic = "difference"                 # mean, median, share, difference, correlation
    groups = { column = "twin", first = [false], second = [true] }
    unit = "model"                           # what counts as one observation: model, prompt_id, family
    comparison = "below"                     # above, below, inside, outside
    margin = 0.0

    [[claims.controls]]
    name = "ratio instead of mean"
    must = "keep"                            # keep: the rule must hold here too; destroy: it must not
    value = "ratio_norm"

Tokens and runs of one prompt are not independent, so neither can be a unit. The words of the claim are made from the
declaration, and the declaration is part of what is hashed.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from phaselens.claims.declared import REGISTER
from phaselens.claims.interval_rule import Region, above, below, inside, outside
from phaselens.claims.verdict_records import Claim
from phaselens.errors import InputError

OWN = -1  # the family of a study's own claims, where those of the seeds have the number of their document
UNITS = ("model", "prompt_id", "family")
Plain = str | bool | int | float
Where = dict[str, Plain | tuple[Plain, ...]]
PART = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=False, allow_inf_nan=False)


class Groups(BaseModel):
    """Two groups of rows, by the values of one column."""

    model_config = PART

    column: str
    first: Annotated[tuple[Plain, ...], Field(min_length=1)]
    second: Annotated[tuple[Plain, ...], Field(min_length=1)]


class OwnControl(BaseModel):
    """The same statistic on other rows, another column or another table: it must `keep` or `destroy` the effect."""

    model_config = PART

    name: Annotated[str, Field(min_length=1)]
    must: Literal["keep", "destroy"]
    table: str | None = None
    value: str | None = None
    where: Where = Field(default_factory=dict)


class OwnClaim(BaseModel):
    """What a user declares; every field moves the hash."""

    model_config = PART

    id: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,15}$")]
    statement: Annotated[str, Field(min_length=1)]
    table: str
    value: str
    statistic: Literal["mean", "median", "share", "difference", "correlation"]
    unit: Literal["model", "prompt_id", "family"]
    comparison: Literal["above", "below", "inside", "outside"]
    margin: float = 0.0
    centre: float = 0.0
    scale: Literal["plain", "log"] = "plain"
    where: Where = Field(default_factory=dict)
    groups: Groups | None = None
    other: str | None = None
    controls: tuple[OwnControl, ...] = ()
    published: str = ""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.groups is not None) != (self.statistic == "difference"):
            raise ValueError(
                "a difference, and no other statistic, needs groups = { column = ..., first = [...], "
                f"second = [...] }}; this is a {self.statistic}"
            )
        if (self.other is not None) != (self.statistic == "correlation"):
            raise ValueError(f"a correlation, and no other statistic, needs other = COLUMN; this is a {self.statistic}")
        if self.comparison in ("inside", "outside") and not self.margin > 0:
            raise ValueError(f"{self.comparison} needs a margin above 0; got {self.margin:g}")
        if self.comparison in ("above", "below") and self.centre:
            raise ValueError("centre goes with inside and outside; for above and below the margin is the bound")
        if self.scale == "log" and self.statistic in ("share", "correlation"):
            raise ValueError(f"scale = 'log' says nothing about a {self.statistic}")
        names = [c.name for c in self.controls]
        if len(set(names)) != len(names):
            raise ValueError(f"two controls have one name: {', '.join(names)}")
        if any(c.must == "destroy" for c in self.controls) and self.comparison == "inside":
            raise ValueError("a claim that an effect is small cannot be destroyed by a control; use must = 'keep'")
        return self

    @property
    def supported(self) -> tuple[Region, ...]:
        """Where the interval must lie."""
        return self._region(self.comparison)

    @property
    def rejected(self) -> tuple[Region, ...]:
        """Where it must not: the other side of the margin."""
        return self._region(
            {"above": "below", "below": "above", "inside": "outside", "outside": "inside"}[self.comparison]
        )

    def _region(self, comparison: str) -> tuple[Region, ...]:
        if comparison in ("above", "below"):
            return (above if comparison == "above" else below)(self.margin)
        return (inside if comparison == "inside" else outside)(self.margin, self.centre)

    @property
    def bounds(self) -> tuple[float, ...]:
        """The values that the interval must miss to decide anything."""
        ends = {self.margin} if self.comparison in ("above", "below") else {-self.margin, self.margin}
        shift = 0.0 if self.comparison in ("above", "below") else self.centre
        return tuple(sorted(end + shift for end in ends))


class RegisteredOwn(Claim):
    """A user's claim in the form of the register: words for people, and the declaration that makes them."""

    rule: OwnClaim


INTERVALS = {
    "mean": "t interval",
    "share": "t interval",
    "difference": "Welch's interval, or that of paired differences where every unit is in both groups",
    "median": "interval between order statistics",
    "correlation": "interval of Fisher's z",
}


def registered_own(own: OwnClaim) -> RegisteredOwn:
    """The claim as it stands in the ledger; its words are made from the declaration.

    Raises InputError where the id belongs to a registered claim.
    """
    if own.id in {c.id for c in REGISTER}:
        raise InputError(f"the claim {own.id!r} is one of the register; give yours another id.")
    regions = " or ".join(map(str, own.supported)), " or ".join(map(str, own.rejected))
    return RegisteredOwn(
        id=own.id,
        seed_doc=OWN,
        statement=own.statement,
        statistic=f"{_measured(own)}; one value per {_unit(own)}, 95 % {INTERVALS[own.statistic]}",
        supported=f"interval {regions[0]}, p <= .05 after Holm over the study's own claims"
        + ("; every control survived" if own.controls else ""),
        rejected=f"interval {regions[1]}" + (", or a control explains it away" if own.controls else ""),
        controls=tuple(c.name for c in own.controls),
        nulls=(f"the value {' or '.join(f'{b:g}' for b in own.bounds)}",),
        published=own.published or "-",
        rule=own,
    )


def _unit(own: OwnClaim) -> str:
    return own.unit.removesuffix("_id")


def _measured(own: OwnClaim) -> str:
    """What is computed, in words."""
    value = f"{'log ' if own.scale == 'log' else ''}{own.value} of results/{own.table}.parquet"
    rows = ", ".join(f"{k} = {listed(v)}" for k, v in sorted(own.where.items()))
    if own.groups is not None:
        g = own.groups
        value += f" where {g.column} is {listed(g.first)}, less the same where it is {listed(g.second)}"
    if own.other is not None:
        value += f" with {own.other}"
    return f"{own.statistic} of {value}" + (f" ({rows})" if rows else "")


def listed(value: Plain | tuple[Plain, ...]) -> str:
    """One value, or several with an `or` between."""
    return " or ".join(str(v) for v in value) if isinstance(value, tuple) else str(value)


def without_repeats(own: tuple[OwnClaim, ...]) -> tuple[OwnClaim, ...]:
    """The same claims. Raises ValueError where two have one id, or an id belongs to the register."""
    ids = [c.id for c in own]
    for one in ids:
        if ids.count(one) > 1:
            raise ValueError(f"two claims are called {one!r}")
        if one in {c.id for c in REGISTER}:
            raise ValueError(f"the claim {one!r} is one of the register; give yours another id")
    return own
