"""`phaselens run`, from models or from stored traces, and `phaselens report`."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phaselens.batteries.graders import KINDS
from phaselens.cli.plans import Plan, print_plan
from phaselens.cli.terminal import bounded, names, note, number, print_json, print_table, quiet_models, say, watching
from phaselens.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from phaselens.claims.verdict_records import LedgerRow
    from phaselens.studies import Outcome
    from phaselens.studies.declaration import Study

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Device = Annotated[str | None, typer.Option(help="Where to compute, e.g. cpu or cuda.")]
Dtype = Annotated[str | None, typer.Option(help="float32, float16 or bfloat16.")]
Seed = Annotated[int | None, typer.Option(help="Seed of every draw.")]


def _forget(asked: bool) -> bool:
    """Forget the proofs that are kept, so that every model of this command is proved again."""
    if asked:
        from phaselens.models.user_cache import forget_proofs

        forget_proofs()
    return asked


Prove = Annotated[
    bool, typer.Option("--prove", callback=_forget, help="Prove models again, though a passed proof is kept.")
]


class EngineName(StrEnum):
    """Where the units of a study are done."""

    LOCAL = "local"
    RAY = "ray"
    SLURM = "slurm"


def run(
    study: Annotated[str | None, typer.Argument(help="A preset or a study.toml.", show_default="organisms")] = None,
    out: Annotated[
        str | None, typer.Option(help="Folder to fill, or a URI (s3://, gs://, ...); by default the study's name.")
    ] = None,
    source: Annotated[
        Path | None, typer.Option("--from", help="Analyse the stored traces of this folder again; loads no model.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="The quick form of the study: few prompts, wide intervals.")
    ] = False,
    seed: Seed = None,
    device: Device = None,
    dtype: Dtype = None,
    experiments: Annotated[
        str | None, typer.Option(help="With --from and --out: other experiments than declared, e.g. regimes,gd.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Processes that share the work, each with one thread (Linux, CPU).",
            show_default="every core for bundled models and for --from, else 1",
        ),
    ] = None,
    models_from: Annotated[
        Path | None, typer.Option(help="Read Hub models from this folder (ORG/NAME in it) instead of the Hub.")
    ] = None,
    claims: Annotated[
        Path | None,
        typer.Option(help="With --from and --out: your claims (TOML) that came after the data; shown as post hoc."),
    ] = None,
    prove: Prove = False,
    engine: Annotated[
        EngineName | None, typer.Option(help="Where the units of work are done: here, on a Ray cluster, by Slurm.")
    ] = None,
    address: Annotated[str, typer.Option(help="With ray: the address of the cluster, or local.")] = "auto",
    cluster: Annotated[str, typer.Option(help="With slurm: local starts the jobs as processes here.")] = "slurm",
    partition: Annotated[str | None, typer.Option(help="With slurm: the partition.")] = None,
    card: Annotated[
        float | None, typer.Option(help="With an engine on GPUs: GB of one.", show_default="as seen here, else 80")
    ] = None,
    begin: Annotated[
        bool, typer.Option("--begin", help="Register the study and stop, for `phaselens work` to go on.")
    ] = False,
    fewer: Annotated[
        bool, typer.Option("--fewer", help="Write over results of more models where a model fails this time.")
    ] = False,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", help="A study without a file, of this model (organism:NAME, a folder, a Hub id) ..."),
    ] = None,
    prompts: Annotated[Path | None, typer.Option(help="... on your prompts; else on a bundled battery.")] = None,
    questions: Annotated[bool, typer.Option("--questions", help="... on the bundled graded questions.")] = False,
    chat: Annotated[bool, typer.Option("--chat", help="... as conversations, by the tokenizer's template.")] = False,
    system: Annotated[str | None, typer.Option(help="... with this system turn.")] = None,
    samples: Annotated[int, typer.Option(help="... with so many generations per prompt.", min=1)] = 2,
    grader: Annotated[str | None, typer.Option(help=f"... graded by: {', '.join(KINDS)} (regex:PATTERN).")] = None,
    separator: Annotated[
        str | None,
        typer.Option(help="... where one cell holds several accepted answers: what parts them, such as ';'."),
    ] = None,
    plan: Plan = False,
    as_json: AsJson = False,
) -> None:
    """Carry a study out: generate, observe, analyse, judge, report. Run it again to go on after an interruption.

    With --from the last three alone, from the traces of a folder: in place, or into --out. With --model no file is
    needed: the TOML that the options stand for lies in the folder afterwards.
    """
    from phaselens.report import render

    if source is not None:
        models = {"--device": device, "--dtype": dtype, "--models-from": models_from}
        _refuse([name for name, v in {"a study": study, "--quick": quick or None, **models}.items() if v is not None])
    elif experiments is not None or claims is not None:
        option = "--claims" if experiments is None else "--experiments"
        raise InputError(f"{option} goes with --from; a study that is carried out declares its own.")
    with watching() as listener:
        if source is not None:
            outcome = _again(source, out, experiments, claims, seed=seed, workers=workers, listener=listener)
        else:
            from phaselens.studies.cost_estimate import plan_of
            from phaselens.studies.stages.download_needs import located

            quiet_models()
            own = {"prompts": prompts, "questions": questions, "chat": chat, "system": system}
            own |= {"grader": grader, "separator": separator}
            declared = _plain(study, "plan" if plan and out is None else out, model, samples, own)
            declared = (declared.quickened() if quick else declared).changed(seed=seed, device=device, dtype=dtype)
            if models_from is not None:
                declared = located(declared, models_from)
            if plan:
                print_plan(plan_of(declared, workers or 1), as_json)
                return
            where = {"address": address, "cluster": cluster, "partition": partition, "card": card}
            outcome = _carried_out(
                declared, out, workers, engine, where, listener=listener, fewer=fewer, begin_only=begin
            )
            if outcome is None:
                say(f"begun: {out}. `phaselens work {out} --part I/N` goes on; this command without --begin ends it.")
                return
        page = render(outcome.folder)
        if out is not None and "://" in out:
            from phaselens.studies.store.location import Place

            Place(out, outcome.folder).put([page.name])
    if as_json:
        print_json(_document(outcome, page))
    else:
        _print(outcome, page)


def _refuse(given: list[str]) -> None:
    """See that nothing was given that only a study with models has."""
    if given:
        raise InputError(
            f"--from DIR analyses what stands in that folder and runs no model, so {', '.join(given)} cannot be given "
            "with it. Leave it out, or leave out --from."
        )


def _again(
    source: Path, out: str | None, experiments: str | None, claims: Path | None, *, workers: int | None, **settings: Any
) -> "Outcome":
    """The stored traces, analysed again; the declaration, and with it the model library, is needed for claims only."""
    from phaselens.engines.forked_workers import spare_cores
    from phaselens.studies import analyse_study

    own: tuple[Any, ...] = ()
    if claims is not None:
        from phaselens.studies.declaration import read_claims

        own = read_claims(claims)
    return analyse_study(
        source,
        out=None if out is None else Path(out),
        experiments=names(experiments),
        claims=own,
        workers=spare_cores() if workers is None else workers,
        **settings,
    )


def _plain(
    study: str | None, out: str | None, models: list[str] | None, samples: int, given: dict[str, Any]
) -> "Study":
    """The study that the options of --model stand for, else the one named, else the default preset."""
    from phaselens.studies.declaration import read_study
    from phaselens.studies.default_declaration import plain_study

    if models is None:
        extra = [f"--{name}" for name, value in given.items() if value]
        if extra:
            raise InputError(f"{extra[0]} goes with --model MODEL; a study file says it itself.")
        return read_study(study or "organisms")
    if study is not None:
        raise InputError(f"got the study {study} and --model {models[0]}; a study says its models itself: give one.")
    if out is None:
        raise InputError("say where the study goes: --out DIR.")
    return plain_study(models, Path(out).name or "study", samples=samples, **given)


def _carried_out(
    declared: "Study", out: str | None, workers: int | None, name: EngineName | None, where: dict[str, Any], **how: Any
) -> "Outcome | None":
    """The study, carried out or gone on with, on the engine of this name; None: only begun."""
    from phaselens.engines import engine_named
    from phaselens.engines.forked_workers import spare_cores
    from phaselens.studies import run_study
    from phaselens.studies.cost_estimate import plan_of, short
    from phaselens.studies.stages.download_needs import needs_of, require_reachable

    engine = None if name is None else engine_named(name, workers=workers, device=declared.device, **where)
    if name in (None, EngineName.LOCAL):
        check_device(declared.device)
    needs = needs_of(declared)
    for line in needs.lines():
        note(line)
    require_reachable(needs)
    if not declared.bundled and not needs.absent:
        there = (Path(out or declared.name) / "manifest.json").is_file()
        whole = " (of the whole study: what is there already is kept)" if there else ""
        note(short(plan_of(declared, workers or 1)) + whole)
    if workers is None:
        workers = spare_cores() if declared.bundled and declared.device == "cpu" and engine is None else 1
    return run_study(declared, out or declared.name, workers=workers, engine=engine, **how)


def check_device(device: str) -> None:
    """See that `device` is there, before anything is loaded."""
    import torch

    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise InputError(f"device {device!r} cannot be used: {reason} Use --device cpu.") from error


def _document(outcome: "Outcome", page: Path) -> dict[str, object]:
    plain = {name: getattr(outcome, name) for name in ("panel", "claims", "refused", "failed", "notes")}
    return {"out": str(outcome.folder), "report": str(page), **plain, "seconds": round(outcome.seconds, 3)}


def _print(outcome: "Outcome", page: Path) -> None:
    columns = ("model", "parameters", "runs", "ratio_norm", "mean ct", "entropy_norm", "GD_ratio", "collapsed")
    rows = [
        (
            row["model"],
            row["parameters"],
            row["n_runs"],
            bounded(row, "ratio_norm", "ratio_norm_lo", "ratio_norm_hi"),
            number(row["mean_ct"]),
            number(row["entropy_norm"]),
            bounded(row, "GD_ratio", "GD_lo", "GD_hi"),
            number(row["collapse_share"]),
        )
        for row in outcome.panel
    ]
    prompts = max(row["n_prompts"] for row in outcome.panel)
    print_table(columns, rows, f"{outcome.name}: {prompts} prompts per model, 95 % intervals over prompts")
    print_verdicts(outcome.claims)
    absent = [entry["model"] for entry in (*outcome.refused, *outcome.failed)]
    if absent:
        note(f"not in this panel: {', '.join(absent)} (the reasons stand above and in the report)")
    say("", f"report: {page}   ({outcome.seconds:.0f} s)")


def print_verdicts(claims: "Sequence[LedgerRow]") -> None:
    """One line per claim: verdict, statement, and why; those that are not applicable together, by reason."""
    absent: dict[str, list[str]] = {}
    for claim in claims:
        if claim["verdict"] == "not applicable":
            absent.setdefault(claim["why"], []).append(claim["id"])
            continue
        late = " (post hoc)" if claim.get("post_hoc") else ""
        say(f"{claim['id']:3} {claim['verdict']:14} {claim['statement']}{late}")
        say(f"    {'':14} {claim['why']}")
    for why, ids in absent.items():
        say(f"not applicable: {', '.join(ids)}", f"    {'':14} {why}")


class Format(StrEnum):
    """Forms of the report."""

    HTML = "html"
    MARKDOWN = "md"
    PAPER = "pdf-ready"


def report(
    root: Annotated[str, typer.Argument(metavar="FOLDER", help="The folder of a study, or a URI.")],
    form: Annotated[
        Format, typer.Option("--format", help="One HTML file; report.md with its figures; or a page to print as PDF.")
    ] = Format.HTML,
    figures: Annotated[bool, typer.Option("--figures", help="Also write every figure as SVG into figures/.")] = False,
    png: Annotated[bool, typer.Option("--png", help="Also write every figure as SVG and PNG into figures/.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write the report of a study again, from the files in its folder; figures as SVG and PNG for papers."""
    from phaselens.report import render
    from phaselens.studies.store.location import Place

    place = Place(root)
    if place.remote:  # traces stay where they are: the page is of results
        place.fetch(n for n in place.names() if not n.startswith(("traces/", "transcripts/", "calibration/")))
    folder = place.folder
    if form is Format.MARKDOWN:
        from phaselens.report.markdown import write_markdown

        page, *drawn = write_markdown(folder, png)
    else:
        from phaselens.report.figures import write_figures

        page = render(folder, paper=form is Format.PAPER)
        drawn = list(write_figures(folder, png=png)) if figures or png else []
    place.put(file.relative_to(folder).as_posix() for file in (page, *drawn))
    if as_json:
        print_json({"report": str(page), **({"figures": [str(file) for file in drawn]} if drawn else {})})
        return
    say(f"report: {page}" + (f"   ({len(drawn)} figures in {drawn[0].parent})" if drawn else ""))
    if form is Format.PAPER:
        say(f"print it from a browser, or: chromium --headless --print-to-pdf={page.with_suffix('.pdf')} {page}")
