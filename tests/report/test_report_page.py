"""The page made of a study folder: whole, closed to the network, deaf to what models say, and honest about gaps."""

import json
import re
from html.parser import HTMLParser

import pyarrow.parquet as pq
import pytest
from synthetic_study import CLAIMS, HOSTILE, LONG, make_study, models, put, trajectory

from phaselens.errors import StudyFileError
from phaselens.report import render
from phaselens.report.sections import SECTIONS
from phaselens.report.study_files import OPTIONAL, RESULTS, TABLES
from phaselens.report.written_values import fixed, number, places, visible

VOID = {"meta", "br", "img", "input", "link", "col", "hr", "base"}


class Page(HTMLParser):
    """Collects elements, text and ids; fails on a tag that closes what is not open."""

    def __init__(self, content: str):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.text = [], [], []
        self.feed(content)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data):
        if not self.open or self.open[-1] not in {"style", "script"}:
            self.text.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


READ = ("panel", "subpanels", *(name for section in SECTIONS for name in section.tables))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("study") / "synthetic")


@pytest.fixture(scope="module")
def html(study):
    return render(study).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def test_it_is_well_formed_with_one_heading_and_ids_that_are_unique_and_linked(html, page):
    assert html.startswith("<!DOCTYPE html>")
    assert len(page.all("h1")) == 1
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    links = {a["href"][1:] for a in page.all("a") if a["href"].startswith("#")}
    labels = {i for _, a in page.elements for i in a.get("aria-labelledby", "").split()}
    assert (links | labels) <= set(ids)


def test_it_fetches_nothing(html, page):
    loads = [a[key] for _, a in page.elements for key in ("src", "srcset", "data", "action", "poster") if key in a]
    loads += [a["href"] for name, a in page.elements if "href" in a and not (name == "a" and a["href"].startswith("#"))]
    assert all(link.startswith("data:image/png;base64,") for link in loads)
    assert not page.all("link") and not page.all("iframe")
    style = re.search(r"<style>(.*?)</style>", html, re.S).group(1)
    assert "@import" not in style and "url(" not in style and "@font-face" not in style
    policy = next(m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_what_a_model_says_stays_text(page):
    assert len(page.all("script")) == 1
    assert {name for name, _ in page.elements} <= {
        *("html head meta title style body nav ol ul li a main header section p h1 h2 h3 dl dt dd div".split()),
        *("span i b bdi".split()),
        *("table caption colgroup col thead tbody tr th td sup figure figcaption details summary code footer".split()),
        *("svg desc g rect line text path circle image defs pattern script".split()),
    }
    assert not [key for _, attrs in page.elements for key in attrs if key.startswith("on")]
    words = "".join(page.text)
    assert "<script>alert(1)</script>" in words and "{{·7*7·}}" in words and "&amp;" in words
    assert "49" not in [t.strip() for t in page.text if "{{" in t]


def test_signs_that_do_not_show_are_written_out(html):
    for sign in ("\x00", "\u202e", "\u202c", "\ud800", "\u200d"):
        assert sign not in html
    for sign in ("⟨U+202E⟩evil⟨U+202C⟩", "␀", "↵", "⇥", "⟨U+D800⟩", "∅", "◌"):
        assert sign in html


def test_right_to_left_tokens_are_isolated(html):
    assert re.search(r'<bdi class="tk[^>]*>שלום</bdi>', html)


def test_every_number_and_word_of_the_ledger_is_there(html, page):
    words = "".join(page.text)
    for claim in CLAIMS:
        digits = places(*(claim["interval"] or (None, None)), claim.get("estimate"))
        for key in ("estimate", "null"):
            assert fixed(claim.get(key), digits) in words
        for key in ("p", "p_without_twins", "p_holm"):
            assert number(claim.get(key), 2) in words
        for end in claim["interval"] or ():
            assert fixed(end, digits) in words
        for key in ("verdict", "decided_by", "needed", "why", "published"):
            wanted = visible(claim[key] or "")
            assert wanted in words or wanted[:1].upper() + wanted[1:] in words
        for control in claim.get("controls", ()):
            assert control["why"] in words and control["outcome"] in words
        assert all(reason in words for reason in claim.get("reasons", {}).values())
    assert "one is supported, one is rejected, two are left open and one is not applicable" in words


def test_every_model_has_a_row_and_twins_stand_apart(page):
    words = "".join(page.text)
    assert all(name in words for name, *_ in models())
    assert LONG in words and "untrained twins" in words


def test_figures_are_described_and_tables_have_headings(page):
    for svg in (s for s in page.all("svg") if s.get("aria-hidden") != "true"):
        assert svg["role"] == "img" and svg["aria-labelledby"]
    assert all(th.get("scope") in {"col", "row", "rowgroup"} for th in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    assert len(page.all("figcaption")) == len(page.all("figure")) == 10


def test_every_table_of_numbers_can_be_sorted_by_every_column(html):
    tables = re.findall(r'<table[^>]*class="[^"]*sortable[^"]*">(.*?)</table>', html, re.S)
    assert len(tables) == html.count("<table") - html.count('<table class="plain">') >= 5
    for table in tables:
        for row in re.findall(r"<tbody>(.*?)</tbody>", table, re.S):
            cells = re.findall(r'<(?:td|th scope="row")[^>]*>', row)
            assert cells and all("data-key=" in cell for cell in cells)


def test_undefined_is_a_dash_with_a_reason(html):
    assert "nan" not in re.sub(r"base64,[^\"]*|<style>.*?</style>", "", html, flags=re.S).lower().split()
    assert "runs are without it: frozen: mean ct below 1e-8" in html
    assert "undefined: see why" in html and "undefined: 3 values where two groups of two need 4" in html


def test_same_files_same_bytes_and_small(study, html):
    assert render(study).read_text(encoding="utf-8") == html
    assert len(html.encode()) < 1_500_000


@pytest.mark.parametrize(
    "name",
    [*(f"results/{t}.parquet" for t in READ), *(f"results/{r}.json" for r in RESULTS)]
    + ["claims.json", "manifest.json", "study.toml"],
)
@pytest.mark.parametrize("how", ["absent", "broken"])
def test_a_missing_file_is_named_and_the_rest_stands(tmp_path, name, how):
    study = make_study(tmp_path / "s")
    (study / name).unlink(missing_ok=True)
    if how == "broken":
        (study / name).write_bytes(b'{"half": ')
    content = render(study).read_text(encoding="utf-8")
    Page(content)
    if how == "broken" or name not in OPTIONAL:  # absent: nothing to report
        assert f"{name} {'is not in this folder' if how == 'absent' else 'cannot be read'}" in content


def test_only_claims(tmp_path):
    (tmp_path / "claims.json").write_text(json.dumps(CLAIMS))
    content = render(tmp_path).read_text(encoding="utf-8")
    Page(content)
    assert "results/panel.parquet is not in this folder" in content and "<figure" not in content


def test_a_table_without_a_column_or_without_rows_is_named(tmp_path):
    study = make_study(tmp_path / "s")
    put(study, "depth", [{"model": "a", "twin": False}])
    put(study, "gd_depth", [{c: 0.0 for c in TABLES["gd_depth"].required}][:0] or [{"model": "a"}])
    content = render(study).read_text(encoding="utf-8")
    assert "results/depth.parquet lacks depth, observable, value" in content
    assert "results/gd_depth.parquet lacks twin" in content


def test_what_no_model_has_is_said_and_not_drawn(tmp_path):
    study = make_study(tmp_path / "s")
    for table, column in (("gd_models", "GD_ratio"), ("gd_depth", "GD_ratio"), ("depth", "value")):
        rows = pq.read_table(study / f"results/{table}.parquet").to_pylist()
        put(study, table, [row | {column: float("nan")} for row in rows])
    content = render(study).read_text(encoding="utf-8")
    Page(content)
    assert content.count("there is nothing to draw") == 3
    assert 'id="fig-gd"' not in content and 'id="fig-depth' not in content


def test_a_version_that_no_model_has_is_named_in_the_caption(tmp_path):
    study = make_study(tmp_path / "s")
    rows = pq.read_table(study / "results/gd_models.parquet").to_pylist()
    put(study, "gd_models", [row | ({"GD_ratio": float("nan")} if row["version"] == "nucleus" else {}) for row in rows])
    assert "Undefined for every model, so not drawn: nucleus." in render(study).read_text(encoding="utf-8")


def test_no_labelled_run_is_said_and_not_drawn(tmp_path):
    study = make_study(tmp_path / "s")
    rows = pq.read_table(study / "results/regimes_models.parquet").to_pylist()
    empty = {column: float("nan") for column in rows[0] if "share_" in column or column == "ratio_norm"}
    put(study, "regimes_models", [row | empty for row in rows])
    content = render(study).read_text(encoding="utf-8")
    assert "so no run has a label" in content and 'id="fig-labels"' not in content


def test_methods_are_written_from_the_declaration(tmp_path):
    study = make_study(tmp_path / "s")
    (study / "study.toml").write_text(
        'name = "s"\nmax_new_tokens = 72\nsuppress_eos = true\nbootstraps = 2000\nlenses = ["final_norm", "raw"]\n'
        "[[arms]]\ntemperature = 0.7\nsamples = 3\n[[arms]]\ntemperature = 0\n"
    )
    content = render(study).read_text(encoding="utf-8")
    assert (
        "up to 72 tokens, with end-of-text suppressed: 3 times per prompt at temperature 0.7 and once greedily."
        in content
    )
    assert "Intervals rest on 2,000 prompt bootstraps; every draw follows from the seed 0." in content


def test_a_run_that_does_not_fit_its_steps_is_named(tmp_path):
    study = make_study(tmp_path / "s")
    run = trajectory()
    run["tokens"] = run["tokens"][:-1]
    (study / "results/trajectory.json").write_text(json.dumps(run))
    assert "it has 71 tokens for 72 steps" in render(study).read_text(encoding="utf-8")


def test_a_wide_panel_tells_its_models_apart(tmp_path):
    study = make_study(tmp_path / "s")
    names = [f"organisation/model-{k}" for k in range(17)]
    for table in (t for t in TABLES if (study / f"results/{t}.parquet").is_file()):
        rows = pq.read_table(study / f"results/{table}.parquet").to_pylist()
        own = [row for row in rows if row.get("model") == "organism:gpt2"]
        wide = [row | {"model": name, "family": name} for name in names for row in own]
        if own:
            put(study, table, wide)
    content = render(study).read_text(encoding="utf-8")
    kinds = {(m["class"]) for m in Page(content).all("path") if m.get("class", "").startswith("curve")}
    assert len(kinds) == 17
    assert len(content) < 6_000_000


def test_steps_must_be_whole_numbers(tmp_path):
    study = make_study(tmp_path / "s")
    (study / "results/trajectory.json").write_text(json.dumps(trajectory() | {"steps": ["a"] * 72}))
    assert "its steps are not whole numbers" in render(study).read_text(encoding="utf-8")


def test_a_long_run_is_wrapped_and_says_where_it_was_cut(tmp_path):
    study = make_study(tmp_path / "s")
    (study / "results/trajectory.json").write_text(json.dumps([trajectory(400, 33), trajectory(8, 3)]))
    content = render(study).read_text(encoding="utf-8")
    Page(content)
    assert "The first 288 of 400 steps are drawn." in content and 'id="fig-run1"' in content


def test_a_folder_that_is_no_study_is_refused(tmp_path):
    with pytest.raises(StudyFileError, match="holds nothing that a study writes"):
        render(tmp_path)
    with pytest.raises(StudyFileError, match="is not a folder"):
        render(tmp_path / "absent")


@pytest.mark.parametrize("junk", [None, 1.5, "x<script>", [], [1, "a"], {"a": {"b": [1]}}, [[1], [2]]], ids=str)
def test_documents_of_another_shape_do_not_break_the_page(tmp_path, junk):
    study = make_study(tmp_path / "s")
    for name in ("claims.json", "manifest.json", "results/separation.json", "results/temperature.json"):
        content = json.loads((study / name).read_text())
        rows = content if isinstance(content, list) else [content]
        for k, row in enumerate(rows):  # every field in turn is junk, id and verdict apart
            keys = [key for key in row if key not in {"id", "verdict"}]
            row |= {key: junk for key in keys[k :: len(rows)]}
        (study / name).write_text(json.dumps(content))
    (study / "results/notes.json").write_text(json.dumps([junk, {"experiment": junk, "note": junk}]))
    Page(render(study).read_text(encoding="utf-8"))


def test_every_hostile_token_is_in_the_fixture():
    assert set(HOSTILE) <= set(trajectory()["tokens"])


def test_variance_and_order_are_drawn_with_their_n_and_nothing_is_drawn_without_them(tmp_path, html):
    page = Page(html)
    assert {"variance", "order"} <= {attrs.get("id") for attrs in page.all("section")}
    said = "".join(page.text)
    assert "5 models and 2 categories, 8 prompts per category, 3 seeds, 240 runs" in said and "Ceiling − W" in said
    assert said.count("published: rest 0.76") == 4  # two measures, two widths
    study = make_study(tmp_path / "s")
    for name in ("variance_shares", "order_ranks", "order_consistency", "order_stability"):
        (study / f"results/{name}.parquet").unlink()
    other = render(study).read_text(encoding="utf-8")
    assert 'id="variance"' not in other and 'id="order"' not in other and "variance_shares" not in other
