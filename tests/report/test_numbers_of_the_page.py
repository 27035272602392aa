"""What tables, verdicts and labels of the page show stands in `results/` or `claims.json`, to the digits shown."""

import json
import re

import pyarrow.parquet as pq
import pytest
from synthetic_study import make_study

from phaselens.report import render
from phaselens.report.words import is_number, number

SHOWN = re.compile(r"−?\d[\d,]*(?:\.\d+)?(?:×10[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)?")
CELL = re.compile(r'<td(?: data-head="(?:estimate|null|n)")? class="(?:num|figures)"[^>]*>(.*?)</td>', re.S)
LABEL = re.compile(r'<text[^>]* class="figure[^"]*"[^>]*>(.*?)</text>', re.S)
NO_NUMBERS = re.compile(r"<sup>.*?</sup>|<[^>]*>|95&nbsp;%|95 %", re.S)


def stored(folder):
    """Every number of the files that a reader can load, as the page writes it."""
    found = []
    for file in (folder / "results").glob("*.parquet"):
        for column in pq.read_table(file).to_pydict().values():
            found.extend(column)
    for file in (folder / "claims.json", *(folder / "results").glob("*.json")):
        found.append(json.loads(file.read_text()))
    return set(_written(found))


def _written(content):
    if isinstance(content, dict):
        yield from _written(list(content.values()))
    elif isinstance(content, (list, tuple)):
        for one in content:
            yield from _written(one)
    elif is_number(content):
        yield from (number(content, digits) for digits in (2, 4))  # shares in a row have two digits
    elif isinstance(content, str):
        yield from SHOWN.findall(content)


def shown(html):
    """Every number in the cells of tables and of the ledger, and in the labels of figures, with where it stands."""
    for pattern in (CELL, LABEL):
        for inside in pattern.findall(html):
            words = NO_NUMBERS.sub(" ", inside)
            yield from ((one, words) for one in SHOWN.findall(words))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("numbers") / "synthetic")


def test_every_number_of_tables_verdicts_and_labels_is_in_the_results(study):
    found = list(shown(render(study).read_text(encoding="utf-8")))
    there = stored(study)
    assert len(found) > 300
    assert not {words for one, words in found if one not in there}


def test_a_number_that_is_nowhere_would_be_found():
    assert ("0.1235", " 0.1235 ") in list(shown('<td class="num" data-key="0.12345"><bdi>0.1235</bdi></td>'))
    assert not _holds({"a": [0.5]}, "0.1235") and _holds({"a": [0.12345]}, "0.1235")


def _holds(content, text):
    return text in set(_written(content))
