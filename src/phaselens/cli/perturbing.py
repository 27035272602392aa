"""Perturb models into a folder: what they say, their signatures, verdict and page; a model that is there is kept."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from phaselens.batteries import load_battery, natural_battery
from phaselens.capture import Sampling, generate
from phaselens.claims import claims_by_id, judge_all, ledger_rows, lock
from phaselens.cli.acting import causal_into, control_into
from phaselens.engines.folder import held, pretty_json
from phaselens.engines.members import versions
from phaselens.errors import InputError, OutputError
from phaselens.experiments.perturbation import (
    REPRODUCED,
    ROWS,
    THROUGH,
    StoredSignature,
    compared,
    evidence,
    reproduced_rows,
    signature_rows,
    through_rows,
    weights_of,
)
from phaselens.experiments.tables import arrow_table, json_value
from phaselens.interventions.control import ControlPlan
from phaselens.interventions.signature import Signature, SignaturePlan, signature
from phaselens.models import Model
from phaselens.organisms import world_battery
from phaselens.report.perturbation import write_page
from phaselens.trace.store import atomic_write, canonical_json, digest, sweep, write_table

OWNER, LOCKED = "perturb.json", "P1"
ARRAYS = ("depth", "log_gain", "kl", "through", "rms", "rms_without_massive", "massive")


@dataclass(frozen=True)
class Request:
    """What `phaselens perturb` was asked for."""

    prompts: Path | None
    n_prompts: int
    max_new_tokens: int
    temperature: float
    n_boot: int
    plan: SignaturePlan
    causal: bool = False
    control: int = 0
    action: str = "seed"

    def check(self) -> None:
        """See that what can be known without a model is right; raises InputError."""
        if self.n_prompts < 4 or self.max_new_tokens < 2 or self.n_boot < 1:
            raise InputError("wanted: at least 4 prompts (two a half), 2 tokens and 1 resample.")
        if self.prompts is not None:
            load_battery(self.prompts)
        ControlPlan(action=self.action)
        if self.control < 0:
            raise InputError(f"--control is {self.control}; wanted a number of questions, 0 for none.")


def texts_of(request: Request, model: Model) -> list[Any]:
    """The prompts that a model continues: the user's, the world's for an organism, else the natural battery's."""
    if request.prompts is not None:
        found: list[Any] = list(load_battery(request.prompts).prompts)
    elif "organisms" in model.source:
        found = [p for p in _by_turns(world_battery().prompts)]
    else:
        found = _by_turns(natural_battery().prompts)
    if len(found) < request.n_prompts and request.prompts is None:
        raise InputError(f"there are {len(found)} prompts; {request.n_prompts} were asked for. Lower --n-prompts.")
    return [p if request.prompts is not None else p.text for p in found[: request.n_prompts]]


def _by_turns(prompts: Sequence[Any]) -> list[Any]:
    """Prompts in rounds of one of each category."""
    seen: dict[str, int] = {}
    turns = []
    for p in prompts:
        seen[p.category] = seen.get(p.category, 0) + 1
        turns.append(seen[p.category])
    return [prompts[i] for i in np.argsort(turns, kind="stable")]


def perturb_into(
    opened: Sequence[Callable[[], Model]], names: Sequence[str], request: Request, out: Path, say: Callable[[str], None]
) -> dict[str, Any]:
    """Write signatures, tables, verdict and page of the models into `out`; a model that is there is not done again.

    Raises OutputError where the folder holds another study, ModelRefused where strength 0 is not an exact nothing.
    """
    started = time.monotonic()
    asked = json_value({k: str(v) if isinstance(v, Path) else v for k, v in asdict(request).items()})
    claims = claims_by_id(
        [LOCKED, *(["F5"] if request.causal else []), *(["X1", "X2", "X4", "S6"] if request.control else [])]
    )
    with held(out):
        _own(out, {"request": asked, "versions": versions(), "claims_lock": lock(claims)})
        sweep(out)
        stored, facts, skipped = [], [], 0
        for name, opening in zip(names, opened, strict=True):
            path = out / "signatures" / f"{digest({'name': name})[:16]}.safetensors"
            if path.is_file():
                skipped += 1
            else:
                _make(opening(), name, request, path, say)
            one, fact = read_signature(path)
            stored.append(one)
            facts.append(fact)
        document = _judge(stored, facts, request, out)
        seed, first = request.plan.seed, (opened[0], names[0])
        if request.causal:
            document["causal"] = causal_into(*first, seed, out, say)
        if request.control:
            document["control"] = control_into(*first, request.control, request.action, seed, out, say)
        for part in ("causal", "control"):
            document["claims"] += document.get(part, {}).get("claims", [])
        atomic_write(out / "claims.json", pretty_json(document["claims"]))
        page = write_page(out, document)
    return {
        "out": str(out), "report": str(page), **document, "skipped": skipped,
        "seconds": round(time.monotonic() - started, 3),
    }  # fmt: skip


def _own(out: Path, mine: dict[str, Any]) -> None:
    path = out / OWNER
    if path.is_file():
        if json.loads(path.read_text(encoding="utf-8")) != json.loads(pretty_json(mine)):
            raise OutputError(f"{out} holds signatures under other settings or claims. Choose another --out.")
        return
    strange = [p.name for p in out.iterdir() if not p.name.startswith(".")]
    if strange:
        raise OutputError(f"{out} is not empty (it has {sorted(strange)[0]}). Choose another --out.")
    atomic_write(path, pretty_json(mine))


def _make(model: Model, name: str, request: Request, path: Path, say: Callable[[str], None]) -> None:
    """Generate, perturb, and write one model's file."""
    request.plan.of(model)
    say(f"{name}: generating")
    texts, sampling = texts_of(request, model), Sampling(temperature=request.temperature)
    said = generate(model, texts, max_new_tokens=request.max_new_tokens, sampling=sampling, seed=request.plan.seed)
    made = signature(model, said, request.plan, progress=lambda i, n: say(f"{name}: prompt {i} of {n}"))
    arrays = {key: np.asarray(getattr(made, key)) for key in ARRAYS}
    for key, (gains, kl) in made.beside.items():
        arrays |= {f"beside/{key}/gain": gains, f"beside/{key}/kl": kl}
    if made.substitution is not None:
        arrays |= {"substitution/gain": made.substitution[0], "substitution/kl": made.substitution[1]}
    plain = {k: np.ascontiguousarray(v) for k, v in sorted(arrays.items())}
    atomic_write(path, save(plain, metadata={"phaselens": canonical_json(_facts(made, model, name))}))


def _facts(made: Signature, model: Model, name: str) -> dict[str, Any]:
    return {
        "model": name, "family": model.family, "fingerprint": model.fingerprint, "n_layers": model.n_layers,
        "prompts": list(made.prompts), "layers": list(made.layers), "strengths": list(made.strengths),
        "deciding": made.deciding, "identity": made.identity, "floor": made.floor, "notes": list(made.notes),
        "passes": made.counts.run, "passes_unshared": made.counts.unshared, "passes_saved": made.counts.saved,
    }  # fmt: skip


def read_signature(path: Path) -> tuple[StoredSignature, dict[str, Any]]:
    """A stored signature and its facts. Raises OutputError for a file that cannot be read."""
    try:
        with safe_open(str(path), "np") as file:
            facts = json.loads(file.metadata()["phaselens"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no mapping
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise OutputError(f"{path} cannot be read: {error}. Delete it and run the same command again.") from error
    beside = {
        name.split("/")[1]: (arrays[name], arrays[name.replace("/gain", "/kl")])
        for name in arrays
        if name.startswith("beside/") and name.endswith("/gain")
    }
    pair = (arrays["substitution/gain"], arrays["substitution/kl"]) if "substitution/gain" in arrays else None
    stored = StoredSignature(
        facts["model"], facts["family"], facts["n_layers"], tuple(facts["prompts"]), tuple(facts["layers"]),
        arrays["depth"], tuple(facts["strengths"]), facts["deciding"], arrays["log_gain"], arrays["kl"],
        arrays["through"], facts["identity"], beside, pair,
    )  # fmt: skip
    return stored, facts


def _judge(
    stored: Sequence[StoredSignature], facts: Sequence[dict[str, Any]], request: Request, out: Path
) -> dict[str, Any]:
    """Tables and the verdict, written; returned as one document."""
    seed = request.plan.seed
    rows = signature_rows(stored, weights_of(stored, seed, request.n_boot))
    split = compared(stored, seed, n_boot=request.n_boot)
    reproduced = reproduced_rows(stored, split)
    verdicts = ledger_rows(judge_all(claims_by_id([LOCKED]), {LOCKED: evidence(stored, split, seed)}))
    results = out / "results"
    write_table(results / "signatures.parquet", arrow_table(ROWS, rows))
    write_table(results / "reproducibility.parquet", arrow_table(REPRODUCED, reproduced))
    write_table(results / "through.parquet", arrow_table(THROUGH, through_rows(stored)))
    kept = ("model", "family", "identity", "passes", "passes_unshared", "passes_saved", "notes")
    document = json_value(
        {
            "deciding": request.plan.deciding, "models": [{k: f[k] for k in kept} for f in facts],
            "signatures": rows, "reproducibility": reproduced, "claims": verdicts,
        }
    )  # fmt: skip
    atomic_write(results / "signatures.json", pretty_json(document))
    return document  # type: ignore[return-value]
