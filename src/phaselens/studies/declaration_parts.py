"""The parts of a declaration that stand in tables of their own: an arm, a model, a file of claims."""

import re
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from phaselens.claims.own_claims import OwnClaim, without_repeats

ORGANISM = "organism:"
HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


class Part(BaseModel):
    """A frozen part of the declaration; unknown fields are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Arm(Part):
    """One setting of the sampler, and how many generations of each prompt it makes. Temperature 0 is greedy."""

    temperature: Annotated[float, Field(ge=0, le=20)]
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=0)] = 0
    samples: Annotated[int, Field(ge=1, le=10**5)] = 1

    @model_validator(mode="after")
    def _one_greedy_sample(self) -> Self:
        if self.temperature == 0 and self.samples > 1:
            raise ValueError("greedy (temperature 0) gives the same tokens every time: samples must be 1")
        return self


class Source(Part):
    """One model: where it is, what it is called in the tables, and how to load it.

    `source` is `organism:NAME`, a folder, a GGUF file, or a Hub id. `twin_of` names another trained model of the study
    of which this one is a twin (a second seed of one recipe, a distillate). `overrides` helps a model whose structure
    is not found.
    `corpus`, `recipe`, `capped`, `qk_norm` and `training_seed` say how it was made, for claims on pairs of models that
    differ in one of them: two models of one `recipe` differ in nothing else. `parameters` (a count) lets memory and
    disk be said before anything is downloaded.
    """

    source: Annotated[str, Field(max_length=4096)]
    name: Annotated[str, Field(max_length=200)] | None = None
    twin_of: str | None = None
    revision: str | None = None
    trust_remote_code: bool = False
    overrides: dict[str, Any] | None = None
    corpus: str | None = None
    recipe: str | None = None
    capped: bool | None = None
    qk_norm: bool | None = None
    training_seed: int | None = None
    training_loss: float | None = None
    training_tokens: float | None = None
    other_loss: float | None = None
    loss_tokens: float | None = None
    other_tokens: float | None = None
    parameters: Annotated[float, Field(gt=0)] | None = None

    @property
    def from_hub(self) -> bool:
        """Whether it is named by a Hub id."""
        return HUB_ID.fullmatch(self.source) is not None and not Path(self.source).exists()

    @property
    def label(self) -> str:
        """The name in the tables: as given, else the organism's, the folder's or the Hub id."""
        if self.name:
            return self.name
        if self.source.startswith(ORGANISM):
            return self.source.removeprefix(ORGANISM)
        path = Path(self.source)
        if not path.exists():
            return self.source
        whole = path.resolve()
        whole = whole.with_suffix("") if whole.suffix == ".gguf" else whole
        return whole.parent.name if whole.name == "hf" else whole.name


class Claims(Part):
    """What a file of claims holds."""

    claims: Annotated[tuple[OwnClaim, ...], Field(min_length=1)]

    @field_validator("claims")
    @classmethod
    def _own_ids(cls, value: tuple[OwnClaim, ...]) -> tuple[OwnClaim, ...]:
        return without_repeats(value)


def with_twins(models: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Bundled organisms that are seeds or checkpoints of another one of the study, declared as its twins.

    Seeds that nobody declares pass the S test in 12-73 % of panels without groups. What the study says itself stays.
    """
    labels = {m.get("source"): m.get("name") for m in models}
    if not any(str(s).startswith(ORGANISM) for s in labels):
        return models
    from phaselens.organisms import names, twin_of  # with a model library, which other studies are read without

    bundled = set(names(checkpoints=True))

    def twin(model: dict[str, Any]) -> dict[str, Any]:
        source = model.get("source")
        if "twin_of" in model or not isinstance(source, str) or not source.startswith(ORGANISM):
            return model
        name = source.removeprefix(ORGANISM)
        first = twin_of(name) if name in bundled else None
        if first is None or ORGANISM + first not in labels:
            return model
        return {**model, "twin_of": labels[ORGANISM + first] or first}

    return [twin(m) for m in models]
