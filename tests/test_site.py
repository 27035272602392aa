"""The site and what stands around the repository: generated pages, documented fields, forms, and a strict build."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from phaselens import errors
from phaselens.claims import REGISTER, lock
from phaselens.claims.own_claims import OwnClaim, OwnControl
from phaselens.experiments import EXPERIMENTS
from phaselens.observables import CLOUD, OBSERVABLES
from phaselens.studies.declaration import _parse, read_study

ROOT = Path(__file__).parents[1]
FENCED = re.compile(r"```(\w+)\n(.*?)```", re.S)


@pytest.fixture(scope="module")
def pages():
    spec = importlib.util.spec_from_file_location("cards", ROOT / "docs" / "cards.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_pages_hold_every_observable_and_every_claim(pages, tmp_path):
    written = {p.relative_to(tmp_path).as_posix(): p.read_text() for p in pages.write(tmp_path)}
    cards = "".join(text for name, text in written.items() if name.startswith("cards/"))
    for one in OBSERVABLES + CLOUD:
        assert f"### {one.name}\n" in cards and f"#{one.name})" in written["cards/index.md"]
    for claim in REGISTER:
        assert f"\n## {claim.id}\n" in written["ledger.md"]
    again = {p.relative_to(tmp_path).as_posix(): p.read_text() for p in pages.write(tmp_path)}
    assert again == written


def test_the_page_of_verdicts_holds_those_of_the_default_panel_and_marks_what_is_stale(pages, tmp_path):
    kept = json.loads(pages.VERDICTS.read_text())
    assert pages.VERDICTS.stat().st_size < 200_000 and kept["command"] == "phaselens run organisms --out DIR"
    declared = read_study("organisms")
    assert {c for e in EXPERIMENTS if e.name in declared.experiments for c in e.claims} == {
        c["id"] for c in kept["claims"]
    }
    pages.write(tmp_path)
    page = (tmp_path / "verdicts.md").read_text()
    moved = pages.stale(kept)
    for row in kept["claims"]:
        assert (
            f"{row['id']}](#claim-{row['id']}){' (stale)' if row['id'] in moved else ''} | {row['verdict']} |" in page
        )
    assert ("Stale rows" in page) == bool(moved) and all(f"{name}: {why}" in page for name, why in moved.items())
    for claim in REGISTER:
        assert f"(ledger.md#{claim.id.lower()})" in page or f"#claim-{claim.id})" in page


def test_a_changed_rule_or_weight_makes_a_verdict_stale(pages):
    kept = json.loads(pages.VERDICTS.read_text())
    before = set(pages.stale(kept))
    kept["registered"][0]["lock"] = kept["judged"][kept["registered"][0]["id"]] = "0" * 64
    name = next(iter(kept["weights"]))
    kept["weights"][name] = "0" * 64
    assert set(pages.stale(kept)) == before | {kept["registered"][0]["id"], name}
    assert pages._verdicts(kept).count("changed since.") >= 2


def test_the_page_of_real_verdicts_marks_what_was_judged_by_other_rules(pages):
    kept = json.loads(pages.REAL.read_text())
    assert kept and pages.REAL.stat().st_size < 300_000
    page, now = pages._real_verdicts(kept), {claim.id: lock((claim,)) for claim in REGISTER}
    for name, study in kept.items():
        moved = {row["id"] for row in study["registered"] if study["judged"].get(row["id"]) != now.get(row["id"])}
        assert set(pages.stale(study)) == moved
        assert all("Q4" in origin and len(mark) == 64 for mark, origin in study["models"].values())
        for row in study["claims"]:
            mark = " (stale)" if row["id"] in moved else ""
            assert f"[{row['id']}](#{name}-claim-{row['id']}){mark} | {row['verdict']} |" in page
    first = next(iter(kept.values()))
    first["judged"][first["registered"][0]["id"]] = "0" * 64
    assert "(stale)" in pages._real_verdicts(kept)


def test_the_page_of_errors_has_every_kind(pages, tmp_path):
    pages.write(tmp_path)
    page = (tmp_path / "errors.md").read_text()
    ours = {n for n, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.PhaselensError)}
    assert {kind.__name__ for kind in errors.KINDS} == ours - {"PhaselensError"}
    for kind in errors.KINDS:
        assert f"## {kind.__name__} {{ #{kind.__name__.lower()} }}" in page
        assert len(errors.explanation(kind).split()) > 20, kind


def test_a_page_that_the_navigation_does_not_name_enters_it(pages, tmp_path):
    (tmp_path / "index.md").write_text("# Start\n")
    (tmp_path / "monitor.md").write_text("# Watch\n")
    (tmp_path / "lenses.md").write_text("# Lenses\n")
    nav = [{"Start": "index.md"}, {"How to": []}, {"Reference": [{"Cards": "cards/index.md"}]}]
    found = pages.on_config({"docs_dir": str(tmp_path), "nav": nav})["nav"]
    assert found[1] == {"How to": [{"Watch": "monitor.md"}]}
    assert found[2]["Reference"][1] == {"Lenses": "lenses.md"} and len(found) == 3


def test_the_documented_fields_of_a_claim_are_the_fields():
    page = (ROOT / "docs" / "claims.md").read_text()
    assert re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE) == _ordered(page, OwnClaim.model_fields)
    for field in OwnControl.model_fields:
        assert f"`{field}`" in page


def _ordered(page, fields):
    """The fields in the order of the page, all of them."""
    return sorted(fields, key=lambda name: page.index(f"| `{name}` |"))


def _studies():
    found = []
    for page in ("docs/claims.md", "docs/tutorial.md", "docs/study.md"):
        for kind, text in FENCED.findall((ROOT / page).read_text()):
            if kind == "toml" and "models" in text and "--8<--" not in text:
                found.append(pytest.param(text, id=f"{page} {len(found)}"))
    found.append(pytest.param((ROOT / "examples" / "mine.toml").read_text(), id="examples/mine.toml"))
    return found


@pytest.mark.parametrize("text", _studies())
def test_documented_studies_are_studies(text):
    assert _parse(text, "the page", None).models


def test_the_notebook_is_the_tutorial():
    cells = json.loads((ROOT / "examples" / "tutorial.ipynb").read_text())["cells"]
    code = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
    script = (ROOT / "examples" / "tutorial.py").read_text()
    assert _statements(code) == _statements(script.replace("sys.argv[1] if len(sys.argv) > 1 else ", ""))


def _statements(code):
    """Lines that do something, without comments, docstring and the reading of arguments."""
    body = re.sub(r'^""".*?"""', "", code, flags=re.S)
    lines = [line.split("  #")[0].rstrip() for line in body.splitlines()]
    return [line for line in lines if line.strip() and not line.startswith("#") and line != "import sys"]


def test_issue_forms_and_citation_are_whole():
    forms = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    assert "challenge-a-claim.yml" in {f.name for f in forms}
    for form in forms:
        said = yaml.safe_load(form.read_text())
        if form.name == "config.yml":
            continue
        ids = [part["id"] for part in said["body"]]
        assert said["name"] and said["description"] and len(set(ids)) == len(ids)
        assert any(part.get("validations", {}).get("required") for part in said["body"])
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    from phaselens import __version__

    assert citation["version"] == __version__ and citation["title"].startswith("phaselens")


def test_contributing_has_the_four_recipes():
    page = (ROOT / "CONTRIBUTING.md").read_text()
    for what in ("An observable", "A control", "A claim", "A table and a figure", "An architecture"):
        assert f"\n### {what} ([how-to](" in page


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    if importlib.util.find_spec("material") is None:
        pytest.skip("docs: the extra `docs` is not installed")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    for page in (
        "index.html",
        "tutorial.html",
        "claims.html",
        "cards/index.html",
        "ledger.html",
        "verdicts.html",
        "errors.html",
    ):
        assert (tmp_path / "site" / page).is_file()
