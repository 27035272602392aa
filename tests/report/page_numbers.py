"""Which numbers a page shows, and where; and which numbers its folder holds, as the page writes them."""

import json
import re
import tomllib
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import pyarrow.parquet as pq

from phaselens.report.written_values import fixed, is_number, number

SHOWN = re.compile(r"−?\d(?:[\d,]*\d)?(?:\.\d+)?(?:×10[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)?")
DIGITS = 2, 3, 4  # values in the cells of a matrix have two, ends of a colour bar and shares in a tooltip three
VOID = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "wbr"}
SILENT = {"script", "style", "sup"}  # the page's own code, and the numbers of remarks
WORDS = {"definitions"}  # formulas and fixed sentences
NO_NUMBERS = r"95\s%|⟨U\+[0-9A-F]+⟩"  # what kind of interval, signs of a text that do not show


@dataclass(frozen=True)
class Shown:
    """A number of the page: as written, the text that it stands in, its section, the classes around it."""

    written: str
    text: str
    section: str
    kinds: tuple[str, ...]


class _Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.texts, self.keys = [], [], []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if "data-key" in attrs and "num" in (attrs.get("class") or "").split():
            self.keys.append(attrs["data-key"])
        if tag not in VOID:
            self.open.append((tag, attrs))

    def handle_endtag(self, tag):
        while self.open and self.open.pop()[0] != tag:
            pass

    def handle_data(self, data):
        if data.strip() and not SILENT & {tag for tag, _ in self.open}:
            sections = [attrs.get("id", "") for tag, attrs in self.open if tag == "section"]
            kinds = tuple(attrs.get("class") or tag for tag, attrs in self.open)
            self.texts.append((data, sections[-1] if sections else "", kinds))


def shown(html, names=()):
    """Every number that the page says, but those of axes, of hashes, of names, and of the definitions."""
    page = _Page()
    page.feed(html)
    hidden = re.compile("|".join([NO_NUMBERS, *map(re.escape, sorted(names, key=len, reverse=True))]))
    for text, section, kinds in page.texts:
        if section in WORDS or kinds[-1] == "tick" or "hash" in " ".join(kinds):
            continue
        words = " ".join(text.split())
        yield from (Shown(one, words, section, kinds) for one in SHOWN.findall(hidden.sub(" ", words)))


def keys(html):
    """What the numeric cells of tables are sorted by: the numbers as they are stored, all digits."""
    page = _Page()
    page.feed(html)
    return [key for key in page.keys if key]


def contents(folder: Path):
    """All that a reader can load of a study: tables, documents, the ledger, what was declared and what was run."""
    for file in sorted((folder / "results").glob("*.parquet")):
        yield pq.read_table(file).to_pydict()
    for file in (folder / "claims.json", folder / "manifest.json", *sorted((folder / "results").glob("*.json"))):
        yield json.loads(file.read_text(encoding="utf-8"))
    yield tomllib.loads((folder / "study.toml").read_text(encoding="utf-8"))


def stored(found):
    """Every number in nested content, as the page writes it; also those within texts."""
    return set(_written(found))


def _written(content):
    if isinstance(content, dict):
        yield from _written([*content, *content.values()])
    elif isinstance(content, (list, tuple)):
        for one in content:
            yield from _written(one)
    elif is_number(content):
        yield from (number(content, digits) for digits in DIGITS)
        yield str(content)
        yield from (fixed(content, places) for places in range(7))  # as many digits as an interval leaves
        if 0 <= content <= 1:
            yield f"{100 * content:.1f}"  # rates of the instrument, in percent
    elif isinstance(content, str):
        yield from SHOWN.findall(content)


def exact(found):
    """Every number in nested content, as a number."""
    if isinstance(found, dict):
        found = list(found.values())
    if isinstance(found, (list, tuple)):
        return set().union(*map(exact, found)) if found else set()
    return {found} if is_number(found) else set()
