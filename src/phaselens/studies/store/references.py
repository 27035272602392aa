"""What the numbers of a study rest on: the sources that the docstrings of the functions used name.

Functions are followed from what each experiment calls; observables are those whose columns were recorded. Docstrings of
observables are read as text, so that stored traces are analysed without the library that computes them.
"""

import ast
import inspect
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from phaselens.claims.ledger import judge_all
from phaselens.experiments import Experiment

OURS = "phaselens."
SOURCE = re.compile(r"Source: (.*?)(?=\n\n|\n[A-Z][\w ]+: |\Z)", re.DOTALL)
OWN_PAGE = re.compile(r"^docs/[\w/.]+(?:, section \d+)?; ")
YEAR = re.compile(r"\b(18|19|20)\d\d\b")
OBSERVABLES = Path(__file__).parents[2] / "observables"


def references(experiments: Sequence[Experiment], columns: Collection[str]) -> list[dict[str, Any]]:
    """The sources with what rests on each: rows {"source": str, "of": [name]}, by source.

    `columns` are those of the recorded steps and layers, with or without the suffix of a lens. A source without a year
    (this repository's own definitions, a claim) is no reference.
    """
    found: dict[str, set[str]] = {}
    said = {f.__name__: inspect.getdoc(f) or "" for f in reached([judge_all, *(e.function for e in experiments)])}
    recorded = {column.partition("__")[0] for column in columns}
    said |= {name: text for name, text in _observables().items() if name in recorded}
    for name, text in said.items():
        for one in sources(text):
            found.setdefault(one, set()).add(name)
    return [{"source": source, "of": sorted(found[source])} for source in sorted(found)]


def sources(docstring: str) -> list[str]:
    """The references that a docstring names after `Source:`.

    >>> sources("A share. Source: Holm 1979; Hommel 1988.")
    ['Holm 1979', 'Hommel 1988']
    """
    match = SOURCE.search(docstring)
    whole = "" if match is None else OWN_PAGE.sub("", " ".join(match[1].split()).rstrip("."))
    parts = re.split(r"; (?=[A-Z])", whole)
    return [part for part in parts if YEAR.search(part)]


def reached(entries: Sequence[Any]) -> Iterator[FunctionType]:
    """Every function of this package that the entries name, and those that these name, and so on; each once."""
    seen: set[int] = set()
    left = list(entries)
    while left:
        one = left.pop()
        if id(one) in seen or not str(getattr(one, "__module__", "")).startswith(OURS):
            continue
        seen.add(id(one))
        if isinstance(one, type):
            left += [value for value in vars(one).values() if isinstance(value, (FunctionType, property))]
        elif isinstance(one, FunctionType):
            yield one
            left += _named(one)


def _named(function: FunctionType) -> Iterator[object]:
    """What of this package the code of a function names, also as an attribute of a module."""
    words = set(_words(inspect.unwrap(function).__code__))
    for word in words & set(function.__globals__):
        value = function.__globals__[word]
        if not isinstance(value, ModuleType):
            yield value
        elif value.__name__.startswith(OURS):
            yield from (vars(value)[inner] for inner in words & set(vars(value)))


def _words(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _words(constant)


def _observables() -> dict[str, str]:
    """Docstrings of the functions of `observables`, by name, read as text."""
    trees = (ast.parse(file.read_text(encoding="utf-8")) for file in sorted(OBSERVABLES.glob("*.py")))
    return {n.name: ast.get_docstring(n) or "" for tree in trees for n in tree.body if isinstance(n, ast.FunctionDef)}
