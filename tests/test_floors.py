"""Imports go strictly down: one table says what each part of the package may import, read with `ast`."""

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src" / "phaselens"

WORDS = {"errors", "types", "signs"}
ARRAYS = WORDS | {"statistics"}
RECORD = ARRAYS | {"observables", "perturbations", "probes", "dynamics", "controls", "trace", "batteries"}
RECORD |= {"measure", "clouds", "normalised", "openings"}
MODEL = RECORD | {"models", "capture", "organisms", "recording", "imported", "readings", "interventions"}
STUDY = MODEL | {"claims", "experiments", "presets"}

MAY_IMPORT = {
    "__init__": STUDY | {"study", "studies", "report", "monitor"},
    "__main__": {"cli"},
    "errors": set(),
    "types": set(),
    "signs": set(),
    "statistics": WORDS,
    "observables": ARRAYS,
    "perturbations": ARRAYS,
    "probes": ARRAYS,
    "dynamics": ARRAYS,
    "controls": ARRAYS | {"perturbations"},
    "trace": WORDS,
    "batteries": WORDS,
    "measure": RECORD - {"measure", "openings", "batteries"},
    "clouds": RECORD - {"clouds", "normalised", "openings", "batteries"},
    "normalised": RECORD - {"normalised", "openings", "batteries"},
    "openings": RECORD - {"openings", "normalised", "clouds", "batteries"},
    "models": WORDS,
    "capture": WORDS | {"perturbations", "trace", "models", "batteries"},
    "organisms": WORDS | {"models", "batteries", "dynamics"},
    "imported": RECORD | {"models", "capture", "recording"},
    "recording": RECORD | {"models", "capture"},
    "readings": RECORD | {"models", "capture", "organisms"},
    "interventions": RECORD | {"models", "capture", "organisms", "recording", "readings"},
    "claims": WORDS | {"statistics"},
    "experiments": (STUDY - {"experiments", "presets"}),
    "validity": (STUDY - {"presets"}),
    "study": {"studies"},
    "studies": STUDY | {"engines"},
    "presets": set(),
    "engines": WORDS | {"trace"},
    "report": STUDY - {"organisms", "capture", "recording", "readings", "interventions"} | {"studies", "validity"},
    "monitor": STUDY,
    "watch": STUDY | {"monitor"},
    "cli": STUDY | {"study", "studies", "engines", "report", "monitor", "watch", "validity"},
}
STORE = ("trace/store.py", "trace/schema.py")
TORCH_FREE = ("statistics", "dynamics", "claims", "validity", *STORE, "report", "batteries")


def imports(file: Path) -> set[str]:
    """Every module name imported anywhere in the file, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            ours = node.module == "phaselens"
            found |= {f"phaselens.{alias.name}" for alias in node.names} if ours else {node.module}
    return found


def part(file: Path) -> str:
    return file.relative_to(SRC).parts[0].removesuffix(".py")


FILES = sorted(SRC.rglob("*.py"))


def test_every_part_is_in_the_table():
    parts = {part(f) for f in FILES}
    assert parts <= set(MAY_IMPORT), f"say what these may import: {parts - set(MAY_IMPORT)}"


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(SRC)))
def test_imports_go_down(file):
    own = part(file)
    ours = {name.split(".")[1] for name in imports(file) if name.startswith("phaselens.")} - {own, "__version__"}
    assert ours <= MAY_IMPORT[own], f"{own} may not import {ours - MAY_IMPORT[own]}"


@pytest.mark.parametrize("where", TORCH_FREE)
def test_reading_results_needs_no_model_library(where):
    files = [SRC / where] if where.endswith(".py") else sorted((SRC / where).rglob("*.py")) or [SRC / f"{where}.py"]
    for file in files:
        heads = {name.split(".")[0] for name in imports(file)}
        assert not heads & {"torch", "transformers"}, file


def test_one_file_registers_hooks():
    users = {str(f.relative_to(SRC)) for f in FILES if "register_forward" in f.read_text()}
    assert users <= {"models/hooks.py"}


def test_no_module_is_a_utility_drawer_or_a_giant():
    assert not [f for f in FILES if f.stem in {"utils", "helpers", "misc", "common"}]
    assert not {str(f.relative_to(SRC)): n for f in FILES if (n := len(f.read_text().splitlines())) > 450}
