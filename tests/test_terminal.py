"""What models, files and users are called never steers a terminal, and one call writes one line."""

import ast
import json
import re
from pathlib import Path

import pytest

from phaselens.cli import call
from phaselens.cli.terminal import note, print_json, print_table, say, watching
from phaselens.engines.events import Event
from phaselens.report.probe_page import table
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
        assert not direct or file.name == "terminal.py", (
            f"{file.name} writes with {direct}; use say, note or print_table"
        )
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


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
def test_no_heading_name_or_number_of_a_table_is_cut(width, monkeypatch, capsys):
    names = ("model", "parameters", "ratio_norm", "mean ct", "entropy_norm", "GD_ratio", "collapsed")
    row = ("llama-512", 603_360, "1.35 [1.28, 1.42]", "2.24", "0.0878", "1.95 [1.69, 2.26]", "0.208")
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    print_table((*names, "why"), [(*row, "a sentence that is wrapped " * 9)])
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= width
    for cell in (*names, "why", *row[2:], "603,360"):
        assert any(cell in line for line in lines), (cell, width)
    assert sum("llama-512" in line for line in lines) == sum("model" in line for line in lines) >= 1 + (width < 100)


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
