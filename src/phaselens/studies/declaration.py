"""What a study is: a declaration in TOML, checked, hashed, and written back as it was resolved.

Reading comes with one error per mistake: which file, which line, which field, what was wanted, and the nearest name.
"""

import tomllib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Self

import tomli_w
from pydantic import Field, ValidationError, field_validator, model_validator

from phaselens.batteries import NATURAL, QUESTIONS
from phaselens.batteries.graders import FUNCTION, Grader
from phaselens.claims.own_claims import Groups, OwnClaim, OwnControl, without_repeats
from phaselens.errors import InputError, StudyFileError, unknown_name
from phaselens.experiments import DEFAULT, EXPERIMENTS, experiments_by_name
from phaselens.experiments.own_evidence import require_known
from phaselens.interventions.request import Asked
from phaselens.studies.declaration_parts import ORGANISM, Arm, Claims, Part, Source, with_twins
from phaselens.studies.toml_mistakes import mistake
from phaselens.trace.store import digest

LENSES = ("final_norm", "raw", "tmatch", "shared")
# Further lenses, all of them controls on the distribution; none is on by default.
CONTROL_LENSES = ("tuned", "tmatch_layers", "uncapped", "cap_half", "cap_one", "cap_two", "massive", "nofirst")
ALL_LENSES = (*LENSES, *CONTROL_LENSES)
DTYPES = ("float32", "float16", "bfloat16")
EVERY_ORGANISM = "organism:*"
# Batteries that come with the package; any other name is a file.
WITH_PAIRS = ("world", NATURAL)
BUNDLED_BATTERIES = (*WITH_PAIRS, QUESTIONS)
DEFAULT_ORGANISMS = "organism:default"
PRESETS = files("phaselens") / "presets"


class Study(Part):
    """The declaration of a study. Everything that moves a number stands here, and its hash names the study."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    models: Annotated[tuple[Source, ...], Field(min_length=1)]
    twins: bool = True
    battery: Annotated[str, Field(max_length=4096)] = "world"
    columns: dict[str, str | list[str]] | None = None
    separator: str | None = None
    prompts_per_category: Annotated[int, Field(ge=1, le=10**6)] | None = None
    calibration_prompts: Annotated[int, Field(ge=1, le=10**6)] | None = None
    arms: Annotated[tuple[Arm, ...], Field(min_length=1)] = (Arm(temperature=0.7, samples=3), Arm(temperature=0))
    max_new_tokens: Annotated[int, Field(ge=1, le=10**7)] = 72
    suppress_eos: bool = True
    chat: bool = False
    system: str | None = None
    grader: str | None = None
    lenses: tuple[str, ...] = LENSES
    distribution_controls: bool = False
    observables: tuple[str, ...] = ()
    depths: tuple[Annotated[float, Field(ge=0, le=1)], ...] = ()
    normalisations: tuple[str, ...] = ()
    minimal_pairs: Annotated[int, Field(ge=0, le=10**6)] = 0
    probe_tasks: tuple[str, ...] = ()
    probe_examples: Annotated[int, Field(ge=20, le=10**6)] = 400
    probe_permutations: Annotated[int, Field(ge=19, le=10**6)] = 499
    documents: str | None = None
    document_tokens: Annotated[int, Field(ge=500, le=10**7)] = 8000
    interventions: Asked | None = None
    experiments: tuple[str, ...] = DEFAULT
    claims: tuple[OwnClaim, ...] = ()
    subpanels: Annotated[int, Field(ge=1, le=10**5)] = 20
    bootstraps: Annotated[int, Field(ge=100, le=10**6)] = 2000
    keep_hidden: bool = False
    chunk: Annotated[int, Field(ge=1, le=10**7)] = 256
    batch_size: Annotated[int, Field(ge=1, le=10**6)] = 64
    device: str = "cpu"
    dtype: str = "float32"
    quick: dict[str, object] = Field(default_factory=dict)

    @field_validator("models", mode="before")
    @classmethod
    def _bare_names(cls, value: Any) -> Any:
        """A model may be given as its source alone.

        `organism:*` stands for every bundled organism, `organism:default` for the sub-panel of one a family.
        """
        if not isinstance(value, (list, tuple)):
            return value
        whole = []
        for v in value:
            if v in (EVERY_ORGANISM, DEFAULT_ORGANISMS):
                from phaselens.organisms import default_names, names

                whole += [ORGANISM + name for name in (names() if v == EVERY_ORGANISM else default_names())]
            else:
                whole.append(v)
        listed = [{"source": v} if isinstance(v, str) else v for v in whole]
        return with_twins(listed) if all(isinstance(v, dict) for v in listed) else listed

    @model_validator(mode="before")
    @classmethod
    def _all_controls(cls, value: Any) -> Any:
        """`distribution_controls` adds every control lens that is not named."""
        if not isinstance(value, dict) or value.get("distribution_controls") is not True:
            return value
        named = value.get("lenses", LENSES)
        return value | {"lenses": [*named, *(lens for lens in CONTROL_LENSES if lens not in named)]}

    @model_validator(mode="before")
    @classmethod
    def _turns_end(cls, value: Any) -> Any:
        """In conversations a run ends with the model's turn, unless the study says otherwise."""
        chat = isinstance(value, dict) and value.get("chat") is True
        return {"suppress_eos": False, **value} if chat else value

    @model_validator(mode="after")
    def _system_of_a_chat(self) -> Self:
        if self.system is not None and not self.chat:
            raise ValueError("system is a turn of a conversation: say chat too, or leave system out")
        return self

    @field_validator("lenses")
    @classmethod
    def _known_lenses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for lens in value:
            if lens not in ALL_LENSES:
                raise ValueError(str(unknown_name("lens", lens, ALL_LENSES)))
        if not value or value[0] != "final_norm":
            raise ValueError("the first lens must be final_norm: its columns carry the plain names")
        return _without_repeats("lens", value)

    @field_validator("observables")
    @classmethod
    def _known_observables(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if value:
            from phaselens.observables import by_name

            by_name(value)
        return _without_repeats("observable", value)

    @field_validator("normalisations")
    @classmethod
    def _known_normalisations(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for method in value:
            from phaselens.observables.state_normalisation import METHODS

            if method not in METHODS:
                raise ValueError(str(unknown_name("state normalisation", method, METHODS)))
        return _without_repeats("state normalisation", value)

    @field_validator("probe_tasks")
    @classmethod
    def _known_tasks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            from phaselens.readings.world_tasks import task_named

            task_named(name)
        return _without_repeats("probe task", value)

    @field_validator("experiments")
    @classmethod
    def _known_experiments(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        experiments_by_name(value)
        return _without_repeats("experiment", value)

    @field_validator("claims")
    @classmethod
    def _own_ids(cls, value: tuple[OwnClaim, ...]) -> tuple[OwnClaim, ...]:
        return without_repeats(value)

    @model_validator(mode="after")
    def _claims_have_their_tables(self) -> Self:
        """A claim reads tables that the study makes; which experiment makes a table is said where it is not asked."""
        makers = {table.name: e.name for e in EXPERIMENTS for table in e.tables}
        for claim in self.claims:
            for table in (claim.table, *(c.table for c in claim.controls if c.table)):
                if table not in makers:
                    raise ValueError(f"claim {claim.id!r}: {unknown_name('table of results', table, makers)}")
                if makers[table] not in (*self.experiments, "panel"):
                    raise ValueError(
                        f"claim {claim.id!r} reads results/{table}.parquet, which the experiment {makers[table]!r} "
                        f"makes: add it to experiments"
                    )
            try:
                require_known(claim, [m.label for m in self.models])
            except InputError as error:
                raise ValueError(f"claim {claim.id!r}: {error}") from error
        return self

    @field_validator("grader")
    @classmethod
    def _known_grader(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(f"{FUNCTION} "):
            Grader.of(value)
        return value

    @field_validator("dtype")
    @classmethod
    def _known_dtype(cls, value: str) -> str:
        if value not in DTYPES:
            raise ValueError(str(unknown_name("dtype", value, DTYPES)))
        return value

    @model_validator(mode="after")
    def _columns_of_a_file(self) -> Self:
        if self.battery in BUNDLED_BATTERIES and (self.columns is not None or self.separator is not None):
            raise ValueError(f"battery {self.battery!r} is no file: columns and separator say nothing about it")
        return self

    @model_validator(mode="after")
    def _pairs_of_a_battery(self) -> Self:
        if self.minimal_pairs and self.battery not in WITH_PAIRS:
            raise ValueError(f"minimal_pairs are those of the batteries {', '.join(WITH_PAIRS)}; got {self.battery!r}")
        return self

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        labels = [m.label for m in self.models]
        for label in labels:
            if labels.count(label) > 1:
                raise ValueError(f"two models are called {label!r}: give one of them another `name`")
        for m in self.models:
            if m.twin_of is not None and m.twin_of not in labels:
                raise ValueError(str(unknown_name(f"model (twin_of of {m.label!r})", m.twin_of, labels)))
        return self

    @property
    def hash(self) -> str:
        """Sha256 of the declaration, in hex: two studies with one hash have the same numbers."""
        return digest(self.declaration())

    def declaration(self) -> dict[str, Any]:
        """The declaration as plain JSON values, without what is at its default of None and without the quick form."""
        return self.model_dump(mode="json", exclude_none=True, exclude={"quick"})

    def changed(self, **changes: object) -> "Study":
        """The same study with other values, checked again; None leaves a value as it is.

        Raises InputError where a value is not allowed; says which.
        """
        given = {k: v for k, v in changes.items() if v is not None}
        return validated({**self.model_dump(), **given}, "the study", "")

    @property
    def bundled(self) -> bool:
        """Whether every model comes with the package, and so is small."""
        return all(source.source.startswith(ORGANISM) for source in self.models)

    def quickened(self) -> "Study":
        """The quick form: the values of the table `quick` laid over the others, and the name marked."""
        return validated({**self.model_dump(), "name": f"{self.name}-quick", **self.quick, "quick": {}}, "[quick]", "")

    def to_toml(self) -> str:
        """The resolved declaration as TOML that `read_study` reads back to an equal study (without the quick form)."""
        return tomli_w.dumps(self.declaration())


def _without_repeats(kind: str, names: tuple[str, ...]) -> tuple[str, ...]:
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"{kind} {twice[0]!r} is given more than once")
    return names


def presets() -> tuple[str, ...]:
    """Names of the studies that come with the package."""
    return tuple(sorted(p.name.removesuffix(".toml") for p in PRESETS.iterdir() if p.name.endswith(".toml")))


def read_study(which: str | Path) -> Study:
    """A study from the name of a preset or the path of a TOML file; relative paths in it start at its folder.

    Raises StudyFileError where the file is not there, is no TOML, or a field is wrong: file, line, field, what was
    wanted.
    """
    if str(which) in presets():
        return _parse((PRESETS / f"{which}.toml").read_text(encoding="utf-8"), f"preset {which}", None)
    path = Path(which)
    if path.suffix != ".toml" and not path.exists():
        raise unknown_name("preset", str(which), presets())
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"not UTF-8 text (byte {error.start})"
        raise StudyFileError(
            f"cannot read the study {path}: {reason}. Give a preset ({', '.join(presets())}) or a TOML file."
        ) from error
    return _parse(text, str(path), path.resolve().parent)


def read_claims(path: str | Path) -> tuple[OwnClaim, ...]:
    """A user's own claims from a TOML file of `[[claims]]`; `docs/claims.md` shows the form.

    Raises StudyFileError where the file cannot be read or a claim is wrong: line, field, what was wanted.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        values = tomllib.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise StudyFileError(f"cannot read the claims {path}: {reason}. docs/claims.md shows the form.") from error
    try:
        return Claims.model_validate(values).claims
    except ValidationError as error:
        raise StudyFileError(f"{path}: " + " ".join(mistake(e, text, PARTS, Study) for e in error.errors())) from error


def _parse(text: str, where: str, folder: Path | None) -> Study:
    """A study from TOML text; `folder` is where relative paths start."""
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also brackets nested too deeply, numbers of thousands of digits
        raise StudyFileError(f"{where} is not TOML: {error}. docs/study.md shows the form of a study.") from error
    if isinstance(values.get("claims"), str):
        values["claims"] = [c.model_dump() for c in read_claims((folder or Path()) / values["claims"])]
    study = validated(values, where, text)
    if folder is None:
        return study
    models = [m.model_dump() | {"source": _from(folder, m.source)} for m in study.models]
    placed = {key: _from(folder, given) for key in ("battery", "documents") if (given := getattr(study, key))}
    return validated({**study.model_dump(), "models": models, **placed}, where, text)


def _from(folder: Path, given: str) -> str:
    """`given` as a path from `folder` if something is there, else as it is (a Hub id, an organism, a battery)."""
    path = folder / given
    return str(path) if not given.startswith(ORGANISM) and given not in BUNDLED_BATTERIES and path.exists() else given


def validated(values: Mapping[str, Any], where: str, text: str) -> Study:
    """A study from plain values, or one StudyFileError with every mistake in it."""
    try:
        return Study.model_validate(_tuples(values))
    except ValidationError as error:
        raise StudyFileError(f"{where}: " + " ".join(mistake(e, text, PARTS, Study) for e in error.errors())) from error
    except InputError as error:
        raise StudyFileError(f"{where}: {error}") from error


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """Tuples of records become lists, the form that the validators read."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


PARTS: dict[str, Any] = {"arms": Arm, "models": Source, "claims": OwnClaim, "controls": OwnControl, "groups": Groups}
