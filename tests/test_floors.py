"""Imports go strictly down: one table of every arrow between parts of the package, read with `ast` and held exactly.

An arrow that is not in the table is a decision to be made; one in the table that nobody uses is a door left open. After
a change `python tests/test_floors.py` prints the table as the code has it.
"""

import ast
import re
import subprocess
import sys
import textwrap
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src" / "phaselens"

TABLE = """
version:
errors:
products:
signs:
types:
scripts:
batteries: errors
engines: errors
perturbations: errors
statistics: errors
models: errors signs types
observables: errors products types
trace: errors scripts signs
web: errors scripts
claims: errors statistics
dynamics: errors statistics
probes: errors perturbations statistics
organisms: batteries errors models
bridges: batteries errors trace
capture: batteries errors models perturbations products trace
measure: dynamics errors observables trace types
readings: batteries capture errors models organisms perturbations probes statistics trace
view: capture dynamics errors models trace version web
observing: bridges capture errors measure models observables trace types version
inspect_hook: bridges errors models observing trace
interventions: batteries capture dynamics errors models observables observing organisms perturbations probes
    products trace
experiments: claims dynamics errors interventions probes statistics
monitor: dynamics errors experiments measure models observables observing trace version
studies: batteries capture claims dynamics engines errors experiments interventions measure models observables
    observing organisms probes readings trace version
validity: claims dynamics errors experiments interventions statistics
watch: batteries capture dynamics errors models monitor observables observing organisms signs trace web
study: studies
report: dynamics errors experiments signs trace validity version
workflows: batteries capture claims engines errors experiments interventions models observing organisms readings
    report studies trace version view
__init__: batteries bridges capture measure models monitor observing organisms studies study trace version workflows
cli: batteries claims engines errors experiments models monitor observing organisms readings report signs studies
    trace validity version view watch web workflows
__main__: cli
"""
IMPORTS = {head: rest.split() for head, _, rest in (row.partition(":") for row in re.split(r"\n(?! )", TABLE.strip()))}
STORE = ("trace/store.py", "trace/schema.py")
# Imports by a name that is put together: in these files alone, and their strings that name a module count as imports.
BY_NAME = re.compile(r"\b(import_module|__import__|resolve_name|runpy)\b")
DYNAMIC = {
    "__init__.py",
    "experiments/__init__.py",
    "probes/__init__.py",
    "studies/__init__.py",
    "trace/trace.py",
    "validity/scenario_catalog.py",
}
TORCH_FREE = ("statistics", "dynamics", "claims", "validity", *STORE, "report", "batteries")


def imports(file: Path, run: bool = False) -> set[str]:
    """Every module name imported anywhere in the file, also inside functions; `run`: not those for a checker alone."""
    found, tree = set(), ast.parse(file.read_text())
    if run:
        tree = Unchecked().visit(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            ours = node.module == "phaselens"
            named = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= named if ours or all(map(is_module, named)) else {node.module, *filter(is_module, named)}
        elif isinstance(node, ast.Constant) and str(file.relative_to(SRC)) in DYNAMIC and is_module(node.value):
            found.add(node.value)
    return found


class Unchecked(ast.NodeTransformer):
    """Leaves out what stands under `if TYPE_CHECKING`."""

    def visit_If(self, node):
        return None if "TYPE_CHECKING" in ast.unparse(node.test) else self.generic_visit(node)


def is_module(name: object) -> bool:
    """Whether a string names a module of the package."""
    if not isinstance(name, str) or not name.startswith("phaselens."):
        return False
    place = SRC.joinpath(*name.split(".")[1:])
    return place.with_suffix(".py").is_file() or (place / "__init__.py").is_file()


def dotted(file: Path) -> str:
    return ".".join(("phaselens", *file.relative_to(SRC).with_suffix("").parts)).removesuffix(".__init__")


def arrows(files: list[Path]) -> dict[str, set[str]]:
    """Which parts each part imports."""
    found: dict[str, set[str]] = {}
    for file in files:
        ours = {name.split(".")[1] for name in imports(file) if name.startswith("phaselens.")}
        found.setdefault(part(file), set()).update(ours - {part(file)})
    return found


def modules(files: list[Path]) -> dict[str, set[str]]:
    """Which modules each module imports when it runs."""
    names = {dotted(f): f for f in files}
    return {name: (imports(f, run=True) & names.keys()) - {name} for name, f in names.items()}


def table(found: dict[str, set[str]]) -> str:
    """The arrows as the text above, lower floors first."""
    order = TopologicalSorter({k: sorted(v) for k, v in sorted(found.items())}).static_order()
    rows = (f"{name}: {' '.join(sorted(found.get(name, ())))}".rstrip() for name in order)
    return "\n".join(textwrap.fill(row, 116, subsequent_indent="    ") for row in rows)


def part(file: Path) -> str:
    return file.relative_to(SRC).parts[0].removesuffix(".py")


FILES = sorted(SRC.rglob("*.py"))


def test_every_arrow_is_in_the_table_and_every_entry_is_an_arrow():
    found, said = arrows(FILES), {name: set(into) for name, into in IMPORTS.items()}
    new = {name: into - said.get(name, set()) for name, into in found.items() if into - said.get(name, set())}
    unused = {name: into - found.get(name, set()) for name, into in said.items() if into - found.get(name, set())}
    assert not new, f"not in the table: {new}; may it be? `python tests/test_floors.py` prints the table."
    assert not unused and set(said) == set(found), f"in the table and used by nobody: {unused}"


def test_no_arrow_goes_round():
    TopologicalSorter(IMPORTS).prepare()
    with pytest.raises(ValueError, match="cycle"):
        TopologicalSorter(IMPORTS | {"errors": ["cli"]}).prepare()


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(SRC)))
def test_nobody_inside_imports_the_whole(file):
    """Importing `phaselens` itself from inside is an arrow to everything that its names fetch."""
    assert "phaselens" not in imports(file)


def test_no_module_goes_round():
    """Also inside a room, and whether a ring is closed at the head of a file or in a function."""
    TopologicalSorter(modules(FILES)).prepare()


def test_imports_by_name_stand_where_they_are_known():
    found = {str(f.relative_to(SRC)) for f in FILES if BY_NAME.search(f.read_text())}
    assert found == DYNAMIC


def test_planted_violations_are_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "SRC", tmp_path)
    planted = {
        "report/page.py": "from phaselens.models import load",
        "statistics/late.py": "def f():\n    import phaselens.trace.store",
        "errors.py": "import phaselens",
        "dynamics/named.py": "from importlib import import_module as get\nget('phaselens.models')",
        "statistics/one.py": "def f():\n    from phaselens.statistics import two",
        "statistics/two.py": "import phaselens.statistics.one",
    }
    for name, text in planted.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    files = sorted(tmp_path.rglob("*.py"))
    assert arrows(files) == {"report": {"models"}, "statistics": {"trace"}, "errors": set(), "dynamics": set()}
    assert [f.name for f in files if "phaselens" in imports(f)] == ["errors.py"]
    assert [f.name for f in files if BY_NAME.search(f.read_text())] == ["named.py"]
    with pytest.raises(ValueError, match="cycle"):
        TopologicalSorter(modules(files)).prepare()


@pytest.mark.parametrize("part", ["statistics", "claims", "report", "dynamics", "study"])
def test_what_reads_results_never_reaches_a_model_library(part):
    """By importing every module of it in a process of its own."""
    code = (
        "import sys, importlib, pkgutil\n"
        f"room = importlib.import_module('phaselens.{part}')\n"
        "for m in pkgutil.walk_packages(getattr(room, '__path__', []), room.__name__ + '.'):\n"
        "    importlib.import_module(m.name)\n"
        "assert not {'torch', 'transformers', 'tokenizers'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


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


if __name__ == "__main__":
    print(table(arrows(FILES)))
