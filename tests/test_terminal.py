"""What models, files and users are called never steers a terminal, and one call writes one line."""

import ast
import json
from pathlib import Path

import pytest

from phaselens.cli import call
from phaselens.cli.show import note, print_json, print_table, say, watching
from phaselens.engines.events import Event
from phaselens.report.probes import table
from phaselens.signs import visible

CLI = Path(__file__).parents[1] / "src" / "phaselens" / "cli"
HOSTILE = "m\x1b[2J\x1b]52;c;aGk=\x07\nG2  supported\r\x9b31m\u202e\u2028\ud800[bold]"


def obeyed(text):
    """Signs that a terminal would act upon, other than the end of a line."""
    return {c for c in text if not c.isprintable() and c != "\n"}


def test_every_command_writes_through_one_place():
    for file in CLI.glob("*.py"):
        calls = [n for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.Call)]
        names = {ast.unparse(c.func) for c in calls}
        direct = names & {"print", "sys.stdout.write", "sys.stderr.write", "rich.print", "typer.secho"}
        assert not direct or file.name == "show.py", f"{file.name} writes with {direct}; use say, note or print_table"
    assert obeyed(HOSTILE) and not obeyed(visible(HOSTILE))


def test_lines_tables_notes_and_json(capsys):
    say(HOSTILE)
    note(HOSTILE)
    with watching() as listener:
        listener(Event("note", "run", HOSTILE))
        listener(Event("stage", "generate", text=HOSTILE))
    out, err = capsys.readouterr()
    assert out.count("\n") == 1 and err.count("\n") == 3 and not obeyed(out + err)
    print_table(("model",), [(HOSTILE,)], HOSTILE)
    out = capsys.readouterr().out
    assert not obeyed(out) and "\nG2" not in out and out.count("[bold]") == 2
    print_json({HOSTILE: HOSTILE})
    out = capsys.readouterr().out
    assert not obeyed(out) and json.loads(out) == {HOSTILE: HOSTILE}


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", HOSTILE.replace("\ud800", "")],
        ["claims", "show", HOSTILE],
        ["explain", HOSTILE],
        [HOSTILE],
        ["run", f"--{HOSTILE}"],
        ["report", HOSTILE.replace("\ud800", "")],
        ["models", "check", HOSTILE.replace("\ud800", "")],
    ],
)
def test_no_command_obeys_what_it_is_given(arguments, capsys):
    assert call(arguments) == 2
    out, err = capsys.readouterr()
    assert not obeyed(out + err) and "\nG2" not in out + err


def test_markdown_tables_show_labels_as_text():
    text = table(("label",), [("<script>|\u202e\n",), ("**b**",)])
    assert text.splitlines()[2:] == [r"| \<script\>\|⟨U+202E⟩↵ |", r"| \*\*b\*\* |"]
