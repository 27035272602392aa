"""All analyses of a traced study made again from its folder alone: no model, no tokenizer, no model library."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import tomli_w

from phaselens.claims import OwnClaim, claims_by_id, lock
from phaselens.engines.events import Event, Listener
from phaselens.engines.forked_workers import checked
from phaselens.errors import InputError, OutputError
from phaselens.experiments import experiments_by_name
from phaselens.studies.conclude import Outcome, Wanted, analyse
from phaselens.studies.store.folder import LOCK, held, log
from phaselens.studies.store.panel_record import read_declaration, read_manifest, read_record, require_traced
from phaselens.trace.result_hashes import CLAIMS, DECLARATION, MANIFEST
from phaselens.trace.seal import json_bytes
from phaselens.trace.store import atomic_write, sweep
from phaselens.version import READING, versions


def analyse_study(
    folder: str | Path,
    *,
    out: str | Path | None = None,
    experiments: Sequence[str] | None = None,
    seed: int | None = None,
    claims: Sequence[OwnClaim] = (),
    listener: Listener | None = None,
    workers: int = 1,
) -> Outcome:
    """Analyse and judge the stored traces of the study in `folder` again, and write what a run of it writes.

    Without `out` the results of the folder are replaced, file by file, each whole; traces and manifest stay. With `out`
    the folder stays as it is, and `out` gets results, claims, the declaration without places, and a manifest that names
    the study by its hash. Other `experiments` or another `seed` than the study declares need `out`, since a folder
    holds what its declaration says; so do own `claims` that came after the data (`study.read_claims`). A claim that is
    not judged as it was registered before the data is marked post hoc, with the reason.
    `workers` processes take an experiment at a time.

    Raises StudyFileError where `folder` is not that of a study, is not traced to the end (the missing units are named),
    or holds traces of another schema version; OutputError where the results cannot be written; InputError for an
    unknown experiment or a choice that needs `out`.
    """
    started, tell, source = time.monotonic(), listener or (lambda event: None), Path(folder)
    checked(workers)
    manifest = read_manifest(source)
    declared = read_declaration(source, manifest)
    wanted = replace(_wanted(declared, experiments, seed), later=tuple(claims))
    target = source if out is None or Path(out).resolve() == source.resolve() else Path(out)
    if target == source and wanted != Wanted.of(declared):
        raise InputError(
            f"{source} holds what its declaration says (seed {declared['seed']}, experiments "
            f"{', '.join(declared['experiments'])}, its own claims): other ones need another folder, --out DIR."
        )
    record = read_record(source)
    require_traced(source, record.units)
    with _writing(target, source, manifest) as place:
        tell(Event("stage", "analyse", f"{len(record.models)} models from stored traces"))
        if target != source:
            _write_origin(place, manifest, declared, wanted)
        found = analyse(source, place, manifest, record, wanted, workers)
        seconds = time.monotonic() - started
        if target == source:
            log(place, "analysed again", seconds=round(seconds, 3), versions=versions(READING))
    return Outcome(folder=place, seconds=seconds, **found)


def _wanted(declared: Mapping[str, Any], experiments: Sequence[str] | None, seed: int | None) -> Wanted:
    """What the study declares, with what was asked for instead."""
    wanted = Wanted.of(declared)
    if experiments is not None:
        experiments_by_name(experiments)
        wanted = replace(wanted, experiments=tuple(experiments))
    if seed is not None and seed != wanted.seed:
        if not 0 <= seed < 2**32:
            raise InputError(f"the seed must be a whole number from 0 to 4294967295; got {seed}.")
        wanted = replace(wanted, seed=seed, other_draws=True)
    return wanted


@contextmanager
def _writing(target: Path, source: Path, manifest: Mapping[str, Any]) -> Iterator[Path]:
    """The folder that is written, held by this process: the study's own, an empty one, or one of earlier analyses."""
    with held(target):
        if target.resolve() != source.resolve():
            _check_free(target, manifest)
        sweep(target)
        yield target


def _check_free(target: Path, manifest: Mapping[str, Any]) -> None:
    """See that the folder is empty or holds analyses of the same study."""
    strange = sorted(p.name for p in target.iterdir() if p.name != LOCK and not p.name.startswith("."))
    if not strange:
        return
    try:
        theirs = json.loads((target / MANIFEST).read_text(encoding="utf-8"))
        ours = "analysis" in theirs and theirs["study"]["hash"] == manifest["study"]["hash"]
    except (OSError, ValueError, KeyError, TypeError):
        ours = False
    if not ours:
        raise OutputError(
            f"{target} is not empty and holds no analyses of this study (it has {', '.join(strange[:3])}). Choose "
            "another --out."
        )


def _write_origin(place: Path, manifest: Mapping[str, Any], declared: Mapping[str, Any], wanted: Wanted) -> None:
    """The declaration without places, and the manifest with what was analysed, of which study, under which claims.

    What stood there from an earlier analysis goes first, so that a killed one leaves no verdict beside other numbers.
    """
    (place / CLAIMS).unlink(missing_ok=True)
    for old in (place / "results").glob("*"):
        old.unlink()
    chosen = (*claims_by_id([c for e in experiments_by_name(wanted.experiments) for c in e.claims]), *wanted.own)
    analysis = {
        "of": manifest["study"]["hash"],
        "seed": wanted.seed,
        "experiments": [e.name for e in experiments_by_name(wanted.experiments)],
        "claims_lock": lock(chosen),
        "later_claims": [c.model_dump(mode="json", exclude_none=True) for c in wanted.later],
        "versions": versions(READING),
    }
    atomic_write(place / DECLARATION, tomli_w.dumps(_without_places(declared)))
    atomic_write(place / MANIFEST, json_bytes({**manifest, "analysis": analysis}))


def _without_places(declared: Mapping[str, Any]) -> dict[str, Any]:
    """The declaration with the name of a file or folder where its place on a machine stood."""

    def name(given: str) -> str:
        return Path(given).name if Path(given).is_absolute() else given

    models = [{**m, "source": name(m["source"])} for m in declared["models"]]
    return {**declared, "models": models, "battery": name(declared["battery"])}
