"""Words, scales, pictures: the small parts of the report, each by its closed form."""

import base64
import json
import struct
import zlib

import pytest

from phaselens.dynamics import published_figures, regimes
from phaselens.report import methods, png, svg, verdict_prose
from phaselens.report.axis_scale import Scale, span
from phaselens.report.study_files import read_folder
from phaselens.report.written_values import interval, number, token, value, visible

NAN = float("nan")


def test_published_bands_are_those_of_the_labels():
    assert tuple((band.low, band.high) for band in published_figures.BANDS) == regimes.PUBLISHED_BANDS
    assert tuple(band.name for band in published_figures.BANDS) == regimes.REGIMES


@pytest.mark.parametrize(
    ("given", "written"),
    [
        (0, "0"),
        (0.0, "0"),
        (1.0, "1"),
        (-0.5, "−0.5"),
        (0.04, "0.04"),
        (999.96, "1,000"),
        (1e-12, "1×10⁻¹²"),
        (1234.5, "1,234"),
        (12345678, "12,345,678"),
        (3e9, "3,000,000,000"),
        (2.5e9 + 0.5, "2.5×10⁹"),
        (float("inf"), "∞"),
        (None, "—"),
        (NAN, "—"),
    ],
)
def test_numbers(given, written):
    assert number(given) == written


def test_a_truth_value_is_no_number():
    assert number(True) == "—" and value(True) == "yes"


def test_an_interval_needs_both_ends():
    assert interval(NAN, 1.0) == interval(1.0, None) == "—"


def test_a_limit_holds_for_what_is_shown():
    assert len(token("\u202e" * 50, 14)) <= 14 and token("\u202e" * 50, 14).endswith("…")
    assert visible("x" * 14, 14) == "x" * 14


def test_a_log_scale_places_equal_ratios_equally_apart():
    scale = Scale(0.01, 100, 0, 400, log=True)
    assert [round(scale(v), 6) for v in (0.01, 0.1, 1, 10, 100)] == [0, 100, 200, 300, 400]
    assert scale.clipped(1e9) == 400


@pytest.mark.parametrize(
    "low, high, log", [(0, 1, False), (1.2, 1.8, False), (0.02, 3, True), (1.1, 1.2, True), (1e-6, 1e6, True)]
)
def test_ticks_are_inside_and_few(low, high, log):
    ticks = Scale(low, high, 0, 100, log=log).ticks(5)
    assert 2 <= len(ticks) <= 12 and all(low <= t <= high for t in ticks)


def test_a_span_ignores_what_is_no_number():
    assert span([NAN, None, True]) is None
    assert span([0.0, -1.0], log=True) is None
    low, high = span([2.0])
    assert low < 2 < high


def test_the_picture_is_a_png_of_the_matrix_with_holes_for_nan():
    uri = png.heat_map([[0.0, NAN], [1.0, 0.0]], 0.0, 1.0, ("000000", "ffffff"), cell=1)
    data = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
    assert data[:8] == b"\x89PNG\r\n\x1a\n" and struct.unpack(">II", data[16:24]) == (2, 2)
    length = struct.unpack(">I", data[33:37])[0]
    lines = zlib.decompress(data[41 : 41 + length])
    assert lines == b"\0" + b"\0\0\0\xff" + b"\0\0\0\0" + b"\0" + b"\xff\xff\xff\xff" + b"\0\0\0\xff"


def test_svg_text_and_attributes_are_escaped():
    made = svg.element("text", "</text><script>", class_='"><b>')
    assert made == '<text class="&#34;&gt;&lt;b&gt;">&lt;/text&gt;&lt;script&gt;</text>'


def test_labels_that_touch_are_moved_apart_and_kept_inside():
    placed = svg.spread([5.0, 5.0, 5.0], 10.0, 0.0, 100.0)
    assert placed == [0.0, 10.0, 20.0]
    assert svg.spread([], 10.0, 0.0, 1.0) == []


def test_a_claim_tested_after_another_is_not_said_to_be_after_holm():
    row = {"id": "G2", "verdict": "open", "p": 0.02, "p_holm": 0.03, "family": "tested after G1"}
    (alone,), (behind,) = verdict_prose.ledger([row]), verdict_prose.ledger([{**row, "after": "G1"}])
    assert alone.more == ("after Holm: p = 0.03",) and behind.more == ("tested after G1: p = 0.03",)


def test_the_methods_say_what_was_corrected_and_what_was_not(tmp_path):
    (tmp_path / "claims.json").write_text(
        json.dumps(
            [
                {"id": "G1", "verdict": "open", "seed_doc": 3, "family": "Holm over 2 of the claims of document 3"},
                {"id": "G2", "verdict": "open", "seed_doc": 3, "after": "G1", "family": "tested after G1"},
                {"id": "G3", "verdict": "open", "seed_doc": 3, "after": "G1", "family": "tested after G1"},
            ]
        )
    )
    (said,) = [s for s in methods.methods(read_folder(tmp_path)) if "Holm" in s]
    assert said.endswith("(one family); tested after G1, and in no correction: G2 and G3.")


def test_references_are_read_from_the_results(tmp_path):
    (tmp_path / "claims.json").write_text("[]")
    (tmp_path / "results").mkdir()
    rows = [{"source": "Holm 1979", "of": ["holm"]}, {"source": "Lin 1991", "of": ["lens_sync", "turbulence"]}]
    (tmp_path / "results" / "references.json").write_text(json.dumps(rows))
    assert methods.references(read_folder(tmp_path)) == [("Holm 1979", "holm"), ("Lin 1991", "lens_sync, turbulence")]
