"""The recipe of docs/how-to/fine-tune.md: what differs from the base by more than seeds differ from one another."""

import re
from pathlib import Path

import pandas as pd
import pytest

PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "fine-tune.md"


@pytest.fixture
def beyond():
    names = {}
    exec(re.search(r"```python\n(.*?)```", PAGE.read_text(), re.S)[1], names)  # noqa: S102  our own page
    return names["beyond"]


def folder_of(rows, place):
    named = [dict(zip(("first", "second", "observable", "lo", "hi", "p", "category"), r, strict=True)) for r in rows]
    table = pd.DataFrame(named).assign(place="output", depth=1.0)
    table["difference"] = (table.lo + table.hi) / 2
    (place / "results").mkdir()
    table.to_parquet(place / "results" / "differences.parquet")
    return place


def test_only_what_lies_farther_out_than_every_pair_of_seeds(beyond, tmp_path):
    rows = []
    for name, (lo, hi, p) in {
        "larger": (-4.0, -3.0, 0.001),
        "as a seed": (1.0, 2.0, 0.001),
        "not sure": (3.0, 4.0, 0.2),
        "around zero": (-9.0, 9.0, 0.001),
        "one end only": (0.5, 9.0, 0.001),
    }.items():
        rows += [("a", "b", name, lo, hi, p, "all"), ("a", "b", name, -99.0, -98.0, 0.001, "stories")]
        rows += [("a", "s2", name, -1.5, -0.5, 0.001, "all"), ("s2", "s3", name, 0.1, 0.2, 0.9, "all")]
        rows += [("b", "s2", name, 50.0, 60.0, 0.001, "all")]
    found = beyond(folder_of(rows, tmp_path), "a", "b", ["a", "s2", "s3"])
    assert [index[0] for index in found.index] == ["larger"]
    assert found.loc[("larger", "output", 1.0), "times"] == pytest.approx(3.0 / 1.5)
