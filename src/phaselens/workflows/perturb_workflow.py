"""Perturb models into a folder: what they say, what changing them does, verdicts and page; what is there is kept."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from phaselens.batteries import by_turns, load_battery, natural_battery
from phaselens.claims import claims_by_id, judge_all, ledger_rows, lock
from phaselens.errors import InputError
from phaselens.experiments import Result
from phaselens.experiments import causal_regions as of_causal
from phaselens.experiments import dynamic_control as of_control
from phaselens.experiments import growth as of_growth
from phaselens.experiments import perturbation as of_signatures
from phaselens.experiments.result_tables import json_value, picked
from phaselens.interventions.dynamic_control import natural_asked, world_questions
from phaselens.interventions.outcome_records import Acted, Found
from phaselens.interventions.record_files import FOLDER, kept, read_acted
from phaselens.interventions.request import Asked
from phaselens.interventions.run_request import Questions, record_of, require_neutral, said_by
from phaselens.interventions.signature import SignaturePlan
from phaselens.models import Model
from phaselens.organisms import world_battery
from phaselens.report.perturb_page import write_page
from phaselens.studies.store.folder import held, own, pretty_json
from phaselens.trace.store import atomic_write, digest, sweep, write_table
from phaselens.trace.transcripts import Transcripts
from phaselens.version import versions

OWNER = "perturb.json"
CLAIMS = {
    e.name: e.claims for e in (of_signatures.PERTURBATION, of_growth.GROWTH, of_causal.CAUSAL, of_control.CONTROL)
}
Say = Callable[[str], None]


@dataclass(frozen=True)
class Request:
    """What `phaselens perturb` was asked for; `asked` holds its sizes."""

    prompts: Path | None = None
    temperature: float = 0.7
    n_boot: int = 1000
    seed: int = 0
    layers: tuple[int, ...] = ()
    asked: Asked = Asked()
    growth: bool = False
    causal: bool = False
    control: bool = False

    def check(self) -> None:
        """See that what can be known without a model is right; raises InputError."""
        if self.n_boot < 1:
            raise InputError(f"--bootstraps is {self.n_boot}; wanted at least 1 resample.")
        if self.prompts is not None:
            load_battery(self.prompts, separator="")

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of intervention asked for."""
        return ("perturbation", *(kind for kind in ("growth", "causal", "control") if getattr(self, kind)))

    @property
    def facts(self) -> dict[str, Any]:
        """All of it as plain values."""
        plain = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(self).items() if k != "asked"}
        return {**plain, "layers": list(self.layers), "asked": self.asked.model_dump(mode="json")}


@dataclass(frozen=True)
class _Opened:
    """One model of the request, loaded when it is first needed, with what it is asked."""

    opening: Callable[[], Model]
    name: str
    request: Request
    say: Say

    @cached_property
    def model(self) -> Model:
        """The model: it has the layers and the site, and strength 0 changes no bit of it."""
        asked, model = self.request.asked, self.opening()
        SignaturePlan(asked.strengths, asked.draws, layers=self.request.layers, site=asked.site).of(model)
        require_neutral(model, asked.site)
        return model

    @cached_property
    def said(self) -> Transcripts:
        """What it says to the prompts."""
        self.say(f"{self.name}: generating")
        request, asked = self.request, self.request.asked
        return said_by(self.model, texts_of(request, self.model), asked.tokens, request.temperature, request.seed)

    @property
    def questions(self) -> Questions:
        """What the control arms are asked. Raises InputError for more questions than there are."""
        n = self.request.asked.questions
        return world_questions(n, self.request.seed) if _organism(self.model) else natural_asked(n)

    def require(self, kind: str) -> None:
        """See that the model can be asked at all; raises InputError with what there is."""
        texts_of(self.request, self.model)
        if kind == "control":
            _ = self.questions

    def record(self, kind: str) -> Found:
        """The record of one kind."""
        request = self.request
        return record_of(
            kind,
            self.model,
            self.name,
            request.asked,
            request.seed,
            layers=request.layers,
            say=self.say,
            said=lambda: self.said,
            questions=lambda: self.questions,
        )


def _organism(model: Model) -> bool:
    return "organisms" in model.source


def texts_of(request: Request, model: Model) -> list[Any]:
    """The prompts that a model continues: the user's, the world's for an organism, else the natural battery's."""
    n = request.asked.prompts
    if request.prompts is not None:
        return list(load_battery(request.prompts, separator="").prompts)[:n]
    ours: Any = world_battery() if _organism(model) else natural_battery()
    found = by_turns(ours.prompts, "category")
    if len(found) < n:
        raise InputError(f"there are {len(found)} prompts; {n} were asked for. Lower --n-prompts.")
    return [p.text for p in found[:n]]


OPTIONS = {
    "prompts": "--n-prompts",
    "tokens": "--max-new-tokens",
    "strengths": "--strengths",
    "draws": "--draws",
    "site": "--site",
    "action": "--action",
    "questions": "--control",
}


def sizes_of(**given: Any) -> Asked:
    """The sizes asked for. Raises InputError for one that cannot be; names the option and what is allowed."""
    try:
        return Asked(**given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        option = OPTIONS.get(str(first["loc"][0]) if first["loc"] else "", "--strengths")
        said = str(first["msg"]).removeprefix("Value error, ")
        got = "" if isinstance(first["input"], dict) else f" (got {first['input']!r})"
        raise InputError(f"{option}: {said[:1].lower()}{said[1:]}{got}.") from error


def perturb(
    models: Model | Sequence[Model], *, out: str | Path, prompts: str | Path | None = None, **asked: Any
) -> dict[str, object]:
    """What `phaselens perturb` does, in one call: noise at every layer and strength, followed to the output.

    `prompts` is a file (None: the model's battery). `asked` are fields of `Request` (`temperature`, `n_boot`, `seed`,
    `layers`, `growth`, `causal`, `control`) and sizes (`tokens`, `strengths`, `draws`, `n_prompts` ...). Returns what
    `--json` prints; errors are those of the command.
    """
    many = [models] if isinstance(models, Model) else list(models)
    plain = {f.name: asked.pop(f.name) for f in fields(Request) if f.name in asked}
    sizes = {{"n_prompts": "prompts"}.get(name, name): value for name, value in asked.items()}
    request = Request(None if prompts is None else Path(prompts), asked=sizes_of(**sizes), **plain)
    request.check()
    opened = [partial(lambda one: one, one) for one in many]
    return perturb_into(opened, [one.name for one in many], request, Path(out), lambda text: None)


def perturb_into(
    opened: Sequence[Callable[[], Model]], names: Sequence[str], request: Request, out: Path, say: Say
) -> dict[str, object]:
    """Write records, tables, verdicts and page of the models into `out`; what is there is not done again.

    Raises OutputError where the folder holds another study, ModelRefused where strength 0 is not an exact nothing.
    """
    started, skipped = time.monotonic(), 0
    claims = claims_by_id([claim for kind in request.kinds for claim in CLAIMS[kind]])
    with held(out):
        mine = {"request": request.facts, "versions": versions(), "claims_lock": lock(claims)}
        own(out, OWNER, mine, "signatures under other settings or claims")
        sweep(out)
        paths = list[Path]()
        for name, opening in zip(names, opened, strict=True):
            one = _Opened(opening, name, request, say)
            files = {k: out / FOLDER / f"{k}-{digest({'model': name})[:8]}.safetensors" for k in request.kinds}
            for kind, path in files.items():  # all that is asked is seen to be there before any of it is done
                if not path.is_file():
                    one.require(kind)
            skipped += all([kept(path, kind, name, partial(one.record, kind)) for kind, path in files.items()])
            paths += files.values()
        found = read_acted(paths)
        document = _judged([found[name] for name in names], request, out)
        for name in names:
            for kind, why in found[name].refused.items():
                say(f"{name}: {kind} is left out: {why}")
        page = write_page(out, document)
    return {
        "out": str(out),
        "report": str(page),
        **document,
        "skipped": skipped,
        "seconds": round(time.monotonic() - started, 3),
    }


def _judged(found: Sequence[Acted], request: Request, out: Path) -> dict[str, object]:
    """Tables and verdicts, written; returned as one document."""
    seed, n_boot = request.seed, request.n_boot
    signatures = [a.perturbation for a in found if a.perturbation is not None]
    results = [of_signatures.analysed(signatures, seed, n_boot)]
    if request.growth:
        results.append(of_growth.analysed([a.growth for a in found if a.growth is not None], seed, n_boot))
    if request.causal:
        results.append(of_causal.analysed([a.causal for a in found if a.causal is not None], seed, n_boot))
    if request.control:
        results.append(of_control.analysed([a.control for a in found if a.control is not None], seed))
    rows = _written(results, out)
    evidence = {claim: e for r in results for claim, e in r.evidence.items()}
    verdicts = ledger_rows(judge_all(claims_by_id(list(evidence)), evidence))
    models = [
        {**picked(s, "model family site identity"), "passes": s.counts.run, "passes_unshared": s.counts.unshared}
        | {"passes_saved": s.counts.saved, "notes": s.notes}
        for s in signatures
    ]
    document: Any = json_value(
        {
            "deciding": signatures[0].deciding,
            "models": models,
            **rows,
            "claims": verdicts,
            "refused": [{"kind": kind, "why": why} for a in found for kind, why in a.refused.items()],
        }
    )
    atomic_write(out / "claims.json", pretty_json(document["claims"]))
    return document


def _written(results: Sequence[Result], out: Path) -> dict[str, list[dict[str, object]]]:
    """The rows of every table by its name, and the tables on disk."""
    tables = {name: table for result in results for name, table in result.tables.items()}
    for name, table in tables.items():
        write_table(out / "results" / f"{name}.parquet", table)
    return {name: table.to_pylist() for name, table in tables.items()}
