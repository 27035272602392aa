"""`phaselens observe` and `phaselens models`: one model at a time."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phaselens.batteries import load_battery
from phaselens.cli.plans import Plan, plan_one, print_plan
from phaselens.cli.run import AsJson, Device, Dtype, Prove, check_device
from phaselens.cli.terminal import names, note, number, print_json, print_table, quiet_models, say, watching
from phaselens.errors import InputError

if TYPE_CHECKING:
    from phaselens.models import Model

app = typer.Typer(help="Which models can be read, and the proof.", no_args_is_help=True)

ModelName = Annotated[str, typer.Argument(metavar="MODEL", help="organism:NAME, a folder, a GGUF file, or a Hub id.")]
Trust = Annotated[bool, typer.Option("--trust-remote-code", help="Run code that comes with the model.")]
Overrides = Annotated[Path | None, typer.Option(help="TOML that says where blocks, norm and head are.")]
Revision = Annotated[str | None, typer.Option(help="Revision of a Hub model.")]


def open_model(name: str, check: bool = True, **settings: Any) -> "Model":
    """Load a model by organism, folder or Hub id."""
    from phaselens.organisms import load

    quiet_models()
    check_device(settings.get("device", "cpu"))
    return load(name, check=check, **settings)


def observe(
    model: ModelName,
    out: Annotated[Path, typer.Option(help="Folder for transcripts and trace.")],
    prompts: Annotated[Path | None, typer.Option(help="JSONL or CSV with a prompt per row.")] = None,
    transcripts: Annotated[
        Path | None, typer.Option(help="Observe these transcripts (JSONL) instead of generating.")
    ] = None,
    scorer: Annotated[str | None, typer.Option(help="Of a log of inspect_ai: the score that grades.")] = None,
    lens: Annotated[list[str] | None, typer.Option(help="final_norm or raw; may be given twice.")] = None,
    observables: Annotated[str | None, typer.Option(help="Names, separated by commas; default: all.")] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Tokens to generate per run.")] = 72,
    samples: Annotated[int, typer.Option(help="Generations per prompt.")] = 1,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.7,
    allow_eos: Annotated[bool, typer.Option("--allow-eos", help="Let a run end by itself; in a chat it does.")] = False,
    chat: Annotated[
        bool, typer.Option("--chat", help="Put every prompt as a user's turn, by the model's chat template.")
    ] = False,
    system: Annotated[str | None, typer.Option(help="The system turn before it.")] = None,
    keep_hidden: Annotated[bool, typer.Option("--keep-hidden", help="Store the hidden states too.")] = False,
    batch_size: Annotated[int | None, typer.Option(help="Runs per batch when generating.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of every draw.")] = 0,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    overrides: Overrides = None,
    revision: Revision = None,
    trust_remote_code: Trust = False,
    prove: Prove = False,
    plan: Plan = False,
    as_json: AsJson = False,
) -> None:
    """Generate on your prompts (or take transcripts) and write what happens at every step and layer."""
    from phaselens.workflows.observe_workflow import NEXT, SUMMARY, Request, observe_into, summarised

    request = Request(
        prompts=prompts,
        transcripts=transcripts,
        scorer=scorer,
        lens=tuple(lens or ("final_norm",)),
        observables=names(observables),
        max_new_tokens=max_new_tokens,
        samples=samples,
        temperature=temperature,
        suppress_eos=False if allow_eos else None,
        chat=chat,
        system=system,
        keep_hidden=keep_hidden,
        batch_size=batch_size,
        seed=seed,
    )
    request.check()
    if plan:
        n = 1 if prompts is None else len(load_battery(prompts, separator="").prompts) * samples
        print_plan(plan_one(model, n, max_new_tokens, len(request.lens), dtype=dtype), as_json)
        return
    settings: dict = {"overrides": overrides, "revision": revision, "trust_remote_code": trust_remote_code}
    opened = open_model(model, device=device, dtype=dtype, **settings)
    found = observe_into(opened, request, out, watching)
    if as_json:
        print_json(found)
        return
    what = "was there already" if found["skipped"] else f"written in {found['seconds']:.1f} s"
    say(f"{found['runs']} runs, {found['steps']:,} steps, {found['rows']:,} rows by layer: {what}")
    if found["nonfinite_steps"]:
        note(
            f"{found['nonfinite_steps']} steps hold a hidden state that is not finite: their rows are kept and flagged"
        )
    for one in found["notes"]:
        note(one)
    for path in found["files"]:
        say(f"  {path}")
    print_table(SUMMARY, summarised(out))
    note("means over runs, without intervals (those come from a study). Next:")
    say(*NEXT.format(out=out).splitlines(), err=True)


@app.command("list")
def list_models(as_json: AsJson = False) -> None:
    """Print the models that can be opened without a network: bundled organisms, and the local Hub cache."""
    from phaselens.organisms.catalog import names as bundled

    rows = [{"model": f"organism:{name}", "where": "bundled"} for name in bundled(checkpoints=True)]
    rows += [{"model": name, "where": "Hub cache"} for name in _cached()]
    print_json(rows) if as_json else print_table(("model", "where"), [tuple(row.values()) for row in rows])


def _cached() -> list[str]:
    """Models in the local Hub cache; none where there is no cache."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        return sorted(repo.repo_id for repo in scan_cache_dir().repos if repo.repo_type == "model")
    except CacheNotFound:
        return []


@app.command("check")
def check_model(
    model: ModelName,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    overrides: Overrides = None,
    revision: Revision = None,
    trust_remote_code: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Load a model and print the proof that its states and logits are read right. Exit code 2 where it fails."""
    from dataclasses import replace

    from phaselens.models import prove
    from phaselens.models.families import check_report

    settings: dict = {"overrides": overrides, "revision": revision, "trust_remote_code": trust_remote_code}
    opened = open_model(model, check=False, device=device, dtype=dtype, **settings)
    proof = prove(opened)
    found = check_report(replace(opened, proof=proof, facts=replace(opened.facts, **proof.facts)))
    if as_json:
        print_json(found)
    else:
        _print_proof(found)
    if not proof.passed:
        note(f"error: {opened.name} is refused: {proof.reason}")
        raise typer.Exit(2)


def _print_proof(found: dict[str, Any]) -> None:
    """The proof as a table."""
    title = f"{found['name']} ({found['family']}): {found['n_layers']} blocks at {found['block_path']}"
    rows = []
    for r in found["rows"]:
        result = "pass" if r["passed"] else "FAIL" if r["needed"] else "no"
        rows.append((r["name"], result, f"{r['value']:.2g}", f"{r['tolerance']:.2g}", r["detail"]))
    print_table(("check", "result", "value", "tolerance", "what"), rows, title)
    for said in filter(None, (found["weights"], found["origin"])):
        say(said if said.startswith("weights") else f"weights: {said}")
    for fact in found["facts_in_words"]:
        say(f"note: {fact}")


@app.command("convert")
def convert_model(
    file: Annotated[Path, typer.Argument(metavar="X.GGUF", help="A GGUF file.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to write; it must not exist.")],
) -> None:
    """Write a GGUF file as a folder of safetensors (float32) that any command, and transformers, reads."""
    from phaselens.models.gguf import convert, gguf_file, origin

    found = gguf_file(str(file))
    if found is None:
        raise InputError(f"{file} is no GGUF file. Give one, as Ollama and LM Studio keep them.")
    quiet_models()
    say(f"{convert(found, folder)}: {origin(folder)}")


@app.command("families")
def families(as_json: AsJson = False) -> None:
    """Print what became of every causal family of the transformers library."""
    from phaselens.models.families import families_table

    table = families_table()
    if as_json:
        print_json(table)
        return
    print_table(
        ("family", "outcome", "facts or reason"),
        [(r["family"], r["outcome"], "; ".join(r["facts"]) or r["reason"]) for r in table],
    )
    counts = Counter(r["outcome"] for r in table)
    say(", ".join(f"{number(n)} {outcome}" for outcome, n in counts.most_common()))
