"""`phaselens claims`: what is registered before the data, what became of it, and manifests for others to check."""

import json
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phaselens.cli.run import AsJson
from phaselens.cli.terminal import note, number, print_json, print_table, say
from phaselens.errors import InputError, StudyFileError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from phaselens.claims import Claim
    from phaselens.claims.verdict_records import LedgerRow

app = typer.Typer(help="What is registered before the data, and by which rule it is judged.", no_args_is_help=True)

ClaimId = Annotated[str, typer.Argument(metavar="ID", help="Name of a claim, e.g. G2.")]
StudyFile = Annotated[
    str | None, typer.Option("--study", help="A preset or study.toml whose own claims are meant too, and its folder.")
]
TAMPERED = 3


@app.command("list")
def list_claims(study: StudyFile = None, as_json: AsJson = False) -> None:
    """Print every registered claim, with the experiment that judges it."""
    from phaselens.claims import REGISTER, lock

    claims = _claims(study)
    if as_json:
        print_json([claim.model_dump() for claim in claims])
        return
    judges = _judges()
    rows = [(c.id, _document(c), c.statement, judges.get(c.id, ""), c.published) for c in claims]
    print_table(("id", "document", "claim", "experiment", "published"), rows)
    say(f"lock of all: {lock(REGISTER)[:16]}   (phaselens claims show ID explains the rule)")
    say("Holm's correction is over the claims of one document that a study judges and that have a p-value;")
    after = [f"{c.id} after {c.after}" for c in claims if c.after]
    say(f"not in it, since they are tested after a claim that they presuppose: {', '.join(after)}.")


def _document(claim: "Claim") -> str:
    from phaselens.claims import OWN

    return "yours" if claim.seed_doc == OWN else f"{claim.seed_doc:03d}"


def _judges() -> dict[str, str]:
    """Which experiment judges which claim; where experiments need a library that is not here, nothing is said."""
    try:
        from phaselens.experiments import EXPERIMENTS
    except ImportError:
        return {}
    return {claim: e.name for e in EXPERIMENTS for claim in e.claims}


def _claims(study: str | None) -> tuple["Claim", ...]:
    """The register, and a study's own claims after it."""
    from phaselens.claims import REGISTER, registered_own

    if study is None:
        return REGISTER
    from phaselens.studies.declaration import read_study

    return (*REGISTER, *(registered_own(c) for c in read_study(_declaration(study)).claims))


def _declaration(study: str) -> str:
    """The study.toml of a folder; anything else as it is."""
    inside = Path(study) / "study.toml"
    return str(inside) if inside.is_file() else study


def _own_in(folder: Path) -> tuple["Claim", ...]:
    """The own claims of a folder: those of its declaration, and those that came after the data, from its manifest."""
    from phaselens.claims import OwnClaim, registered_own
    from phaselens.studies.store.registration import with_later

    def own(rows: Any) -> "list[OwnClaim]":
        return [OwnClaim.model_validate(row) for row in rows]

    try:
        declared = tomllib.loads((folder / "study.toml").read_text(encoding="utf-8"))
        manifest = folder / "manifest.json"
        found = json.loads(manifest.read_text(encoding="utf-8")) if manifest.is_file() else {}
        later = found.get("analysis", {}).get("later_claims", ())
        return with_later([registered_own(c) for c in own(declared.get("claims", ()))], own(later))
    except (OSError, ValueError):
        return ()


def _named(name: str, claims: "Sequence[Claim]") -> "Claim":
    """The claim of this id; upper and lower case count where two ids differ in nothing else."""
    from phaselens.errors import unknown_name

    near = [c for c in claims if c.id.casefold() == name.casefold()]
    exact = [c for c in near if c.id == name]
    if not (exact or len(near) == 1):
        raise unknown_name("claim", name, [c.id for c in claims])
    return (exact or near)[0]


@app.command("show")
def show_claim(
    name: ClaimId,
    folder: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="The folder of a study: its verdict too.")
    ] = None,
    figures: Annotated[bool, typer.Option("--figures", help="Also write its figures as SVG into DIR/figures.")] = False,
    as_json: AsJson = False,
) -> None:
    """Explain one claim in plain words; with the folder of a study also its verdict there."""
    from phaselens.claims.explain import explain

    claims = (*_claims(None), *(() if folder is None else _own_in(folder)))
    claim = _named(name, claims)
    row = None if folder is None else _verdict(folder, claim.id)
    files = _draw(folder, row, claim) if figures and folder is not None and row is not None else []
    changed = [] if folder is None else list(_edited(folder))
    if as_json:
        found = {"verdict": row, "figures": files, "edited": changed} if row else {}
        print_json({**claim.model_dump(), **found})
        return
    say(f"{claim.id}  ({_document(claim)})", "")
    for part in explain(claim, claims):
        say(part.heading)
        for line in part.lines:
            say(f"  {line}")
        say()
    if row is not None:
        _print_verdict(row, files)
    for line in changed:
        say(f"  CHANGED BY HAND: {line}")


def _edited(folder: Path) -> list[str]:
    """What was changed since the verdicts were written, in sentences."""
    from phaselens.trace.result_hashes import edited

    return list(edited(folder).values())


def _verdict(folder: Path, name: str) -> "LedgerRow":
    """The row of one claim in the ledger of a study."""
    rows = {row["id"]: row for row in read_ledger(folder)}
    if name not in rows:
        raise InputError(f"the study in {folder} did not judge {name}; it judged {', '.join(rows)}.")
    return rows[name]


def read_ledger(folder: Path) -> "list[LedgerRow]":
    """The rows of claims.json. Raises StudyFileError where the folder has none."""
    path = folder / "claims.json"
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        if not all({"id", "verdict", "statement"} <= set(row) for row in rows):
            raise ValueError("a row without id, verdict or statement")
    except (OSError, ValueError, TypeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise StudyFileError(
            f"no ledger can be read in {folder} ({reason}). Give a folder that `phaselens run --out` made."
        ) from error
    from phaselens.report.study_files import gone_from

    manifest = folder / "manifest.json"
    registered = json.loads(manifest.read_text(encoding="utf-8")).get("claims", []) if manifest.is_file() else []
    if gone := gone_from(registered, rows):
        raise StudyFileError(f"{folder}: {gone}")
    return rows


def _draw(folder: Path, row: "LedgerRow", claim: "Claim") -> list[str]:
    """The figure of one verdict, and that of the data behind it where the page has one; SVG in DIR/figures."""
    from phaselens.report.claim_figure import claim_figure
    from phaselens.report.figures import standalone
    from phaselens.report.render import content, figures
    from phaselens.report.study_files import read_folder
    from phaselens.trace.store import atomic_write

    place = folder / "figures"
    files = [atomic_write(place / f"claim-{row['id']}.svg", standalone(claim_figure(row, claim.statistic)))]
    known = figures(content(read_folder(folder))).values()
    behind = [figure for figure in known if row["id"] in figure.claims]
    files += [atomic_write(place / f"{figure.name}.svg", standalone(figure.wide)) for figure in behind]
    return [str(file) for file in files]


def _print_verdict(row: "LedgerRow", files: list[str]) -> None:
    late = " (post hoc)" if row.get("post_hoc") else ""
    say("In this study", f"  {row['verdict']}{late}: {row['why']}")
    say(f"  decided by {row['decided_by']}; {row.get('family', '')}")
    if row["needed"]:
        say(f"  what would settle it: {row['needed']}")
    for file in files:
        say(f"  figure: {file}")


@app.command("falsified")
def falsified(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a study.")], as_json: AsJson = False
) -> None:
    """Print the falsification list of a study: every rejected claim, what rejected it, and the published figure."""
    rows = [row for row in read_ledger(folder) if row["verdict"] == "rejected"]
    if as_json:
        print_json(rows)
        return
    if not rows:
        say("no claim of this study was rejected (an open claim is not a rejected one)")
        return
    table = [
        (
            r["id"] + ("*" if r.get("post_hoc") else ""),
            r["statement"],
            number(r["estimate"]),
            r["decided_by"],
            r["published"],
        )
        for r in rows
    ]
    print_table(("id", "claim", "estimate", "rejected by", "published"), table)
    if any(r.get("post_hoc") for r in rows):
        say("* post hoc: not judged as it was registered before the data")


@app.command("export")
def export(
    name: ClaimId,
    study: Annotated[str, typer.Option("--study", help="The preset, study.toml or folder that it is claimed about.")],
    producer: Annotated[str, typer.Option(help="Who claims it: a domain, an ORCID, a handle.")],
    out: Annotated[Path, typer.Option(help="Folder for CLAIM_ID.prml.yaml and its .sha256.")] = Path(),
    at: Annotated[str | None, typer.Option(help="Time of the claim, e.g. 2026-05-18T11:00:00Z; default: now.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write a claim as a manifest of the PRML draft (canonical YAML), with its SHA-256 beside it."""
    from phaselens.claims.prml import manifest_of
    from phaselens.studies.declaration import read_study
    from phaselens.trace.store import atomic_write

    claim, declared = _named(name, _claims(study)), read_study(_declaration(study))
    when = at or datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    made = manifest_of(
        claim,
        created_at=when,
        dataset=f"phaselens study {declared.name}",
        dataset_hash=declared.hash,
        seed=declared.seed,
        producer=producer,
        study=declared.name,
    )
    path = atomic_write(out / f"{made.values['claim_id']}.prml.yaml", made.text)
    side = atomic_write(out / f"{made.values['claim_id']}.prml.sha256", made.hash + "\n")
    if as_json:
        print_json({"manifest": str(path), "sidecar": str(side), "sha256": made.hash})
        return
    say(f"{made.hash}  {path}")
    say("Publish the hash where its time can be checked (a public commit, a timestamp) before the study is run.")


@app.command("import")
def import_claim(
    manifest: Annotated[Path, typer.Argument(metavar="FILE", help="A manifest (.prml.yaml); its .sha256 is checked.")],
    sha: Annotated[
        str | None, typer.Option("--sha256", help="The published hash, instead of the file beside it.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the claim as TOML here; default: print it.")] = None,
) -> None:
    """Check a manifest against its hash and give its claim as TOML. Exit code 3 where it was changed."""
    import tomli_w

    from phaselens.claims.prml import TamperedManifest, own_claim, read_manifest
    from phaselens.trace.store import atomic_write

    side = manifest.with_name(manifest.name.removesuffix(".yaml") + ".sha256")
    if sha is None and side.is_file():
        sha = side.read_text(encoding="utf-8").split()[0]
    try:
        found = read_manifest(manifest.read_text(encoding="utf-8"), sha)
    except TamperedManifest as error:
        note(f"error: {error}")
        raise typer.Exit(TAMPERED) from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{manifest} cannot be read: {error}.") from error
    text = tomli_w.dumps({"claims": [own_claim(found).model_dump(mode="json", exclude_none=True)]})
    note(f"hash {found.hash} {'as published' if sha else '(none was published beside it)'}")
    if out is None:
        say(*text.removesuffix("\n").split("\n"))
    else:
        atomic_write(out, text)
