"""The command line: `phaselens run`, `observe`, `probe`, `report`, `validate`, `claims`, `models` and others.

Wrong input gives one line on stderr and exit code 2; an unexpected error gives one line, a hint, and exit code 1;
`--debug` anywhere shows the traceback. Model libraries are imported only by the commands that need them.
"""

import os
import sys
import traceback
from importlib.resources import files
from typing import Annotated, Any

import typer

from phaselens.cli import (
    bench,
    calibrate,
    claims,
    compare,
    doctor,
    folders,
    measure,
    models,
    organisms,
    perturb,
    probe,
    run,
    validate,
    view,
    watch,
)
from phaselens.cli.terminal import note, say
from phaselens.errors import KINDS, PhaselensError, StateError, explanation, kind_of, unknown_name
from phaselens.version import __version__

# Newer versions of Typer carry their own copy of click: the base of its usage errors is found through one of them.
UsageProblem: type[Any] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
INTERRUPTED = 130
LONGEST = 4000

app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)
app.command("run")(run.run)
app.command("observe")(models.observe)
app.command("probe")(probe.probe)
app.command("perturb")(perturb.perturb)
app.command("measure")(measure.measure)
app.command("report")(run.report)
app.command("watch")(watch.watch)
app.command("view")(view.view)
app.command("calibrate")(calibrate.calibrate)
app.command("compare")(compare.compare)
app.command("check")(compare.check)
app.command("doctor")(doctor.doctor)
app.command("validate")(validate.validate)
app.command("verify")(folders.verify)
app.command("pull")(folders.pull)
app.command("work")(folders.work)


@app.command("explain")
def explain(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="The name that an error gave, e.g. PromptError.")],
) -> None:
    """Say when an error of a kind comes and what to do: the same as on the page Errors of the documentation."""
    known = {one.__name__: one for one in KINDS}
    if kind not in known:
        raise unknown_name("kind of error", kind, known)
    say(*f"{kind}: {explanation(known[kind])}".split("\n"))


app.add_typer(claims.app, name="claims")
app.add_typer(models.app, name="models")
app.add_typer(organisms.app, name="organisms")
app.add_typer(bench.app, name="bench")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"phaselens {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks; may stand anywhere.")] = False,
) -> None:
    """Measure the internal dynamics of decoder-only language models, with controls and a ledger of claims."""
    if context.invoked_subcommand is None:
        typer.echo(files("phaselens.cli").joinpath("greeting.txt").read_text(encoding="utf-8"), nl=False)


def call(arguments: list[str]) -> int:
    """Run one command line; return the exit code. Messages go to stderr, results to stdout."""
    debug = "--debug" in arguments
    _set_environment(debug)
    try:
        code = app([a for a in arguments if a != "--debug"], prog_name="phaselens", standalone_mode=False) or 0
        return _interrupted(debug) if code == INTERRUPTED else code
    except typer.Exit as done:
        return _interrupted(debug) if done.exit_code == INTERRUPTED else done.exit_code
    except UsageProblem as error:
        context = getattr(error, "ctx", None)
        usage = () if context is None else context.get_usage().split("\n")
        say(*usage, f"Error: {error.format_message()}", err=True)
        return 2
    except (typer.Abort, KeyboardInterrupt):
        return _interrupted(debug)
    except BrokenPipeError:  # the reader of our output, e.g. `head`, has gone
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  stays open until the end of the process
        return 0
    except StateError as error:
        _say(f"error: {error} This should not happen: please report it with the output of --debug.", debug)
        return 1
    except PhaselensError as error:
        _say(f"error: {error} (more: phaselens explain {kind_of(error).__name__})", debug)
        return 2
    except Exception as error:
        line = (str(error).strip().splitlines() or [""])[0]
        _say(f"unexpected error: {type(error).__name__}: {line} (run again with --debug for the traceback)", debug)
        return 1


def _interrupted(debug: bool) -> int:
    """Say what is left after Ctrl-C."""
    _say("interrupted. Finished files are whole and kept; the same command goes on from there.", debug)
    return INTERRUPTED


def _say(message: str, debug: bool) -> None:
    """One line on stderr; the traceback before it where it was asked for."""
    if debug and sys.exc_info()[0]:
        traceback.print_exc()
    line = " ".join(message.split())
    note(line if len(line) <= LONGEST else f"{line[:LONGEST]}... ({len(line):,} characters)")


def _set_environment(debug: bool) -> None:
    """Settings that libraries read when they are imported; the user's own win.

    Progress bars and advice stay out of our output. Threads that wait let others work: a busy machine is then slower in
    proportion, not by a factor of ten.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("PHASELENS_PROGRESS", "0")  # the command line shows its own
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if not debug:
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        os.environ.setdefault("HF_HUB_VERBOSITY", "error")


def main() -> None:
    """Entry point of the command `phaselens`."""
    sys.exit(call(sys.argv[1:]))
