"""What the page says in numbers, its folder holds, to the digits shown: in tables, verdicts, prose, labels, tooltips.

Left out are the ticks of axes, hashes, names of models, and the fixed sentences of the definitions.
"""

import subprocess
import sys

import pyarrow.parquet as pq
import pytest
from page_numbers import contents, exact, keys, shown, stored
from synthetic_study import make_study

from phaselens.dynamics.published_figures import GD_RATIO
from phaselens.report import render


def names(folder):
    """What models are called: numbers in a name are no figures."""
    models = pq.read_table(folder / "results" / "panel.parquet")["model"].to_pylist()
    models += [name for name, _ in GD_RATIO]
    return {part for name in models for part in (name, name.removeprefix("organism:"), name.split(":untrained")[0])}


def unmatched(folder):
    """Numbers shown, and those among them that no file of the folder holds."""
    found = list(shown((folder / "report.html").read_text(encoding="utf-8"), names(folder)))
    there = stored(list(contents(folder)))
    return found, [(one.section, one.written, one.text) for one in found if one.written not in there]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return render(make_study(tmp_path_factory.mktemp("numbers") / "synthetic")).parent


def test_every_number_of_the_page_is_in_the_folder(study):
    found, absent = unmatched(study)
    assert len(found) > 300 and not absent


def test_numeric_cells_are_sorted_by_what_is_stored_to_the_last_digit(study):
    found = [float(key) for key in keys((study / "report.html").read_text(encoding="utf-8"))]
    assert len(found) > 50 and set(found) <= exact(list(contents(study)))


@pytest.mark.slow
def test_every_number_of_a_real_study_with_all_experiments_of_the_preset(tmp_path):
    out = tmp_path / "study"
    subprocess.run(
        [sys.executable, "-m", "phaselens", "run", "organisms", "--quick", "--out", str(out)],
        check=True,
        capture_output=True,
    )
    found, absent = unmatched(out)
    assert len(found) > 5000 and not absent
    sections = {one.section for one in found}
    assert {"summary", "ledger", "panel", "regimes", "trajectory", "gd", "depth", "variance", "order"} <= sections
    assert {"states", "motifs", "cycles", "methods"} <= sections
    sorted_by = [float(key) for key in keys((out / "report.html").read_text(encoding="utf-8"))]
    assert len(sorted_by) > 500 and set(sorted_by) <= exact(list(contents(out)))


def test_a_number_that_is_nowhere_would_be_found():
    cell = '<section id="a"><td class="num" data-key="0.12345"><bdi>0.1235</bdi></td></section>'
    (one,) = shown(cell)
    assert (one.written, one.section, keys(cell)) == ("0.1235", "a", ["0.12345"])
    assert "0.1235" not in stored({"a": [0.5]}) and "0.1235" in stored({"a": [0.12345]})
    assert float(keys(cell)[0]) not in exact({"a": [0.123]})


@pytest.mark.parametrize(
    "kept",
    ['<text class="tick halo">n 512</text>', "<g><title>m-1: 512</title></g>", "<figcaption>n: 512</figcaption>"],
)
def test_labels_tooltips_and_captions_are_read_axes_names_and_definitions_are_not(kept):
    assert [one.written for one in shown(kept, {"m-1"})] == ["512"]
    assert not list(shown('<text class="tick">512</text><section id="definitions">512</section><sup>512</sup>'))
