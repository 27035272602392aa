"""Every example in a docstring gives what it says."""

import doctest
import importlib
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src"
MODULES = sorted(
    ".".join(f.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__")
    for f in SRC.rglob("*.py")
    if ">>>" in f.read_text()
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_of(name):
    module = importlib.import_module(name)
    assert "+SKIP" not in Path(module.__file__).read_text(), "an example is run"
    failed, tried = doctest.testmod(module)
    assert tried and not failed


def test_a_wrong_example_is_seen():
    wrong = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, None)
    assert doctest.DocTestRunner(verbose=False).run(wrong, out=lambda text: None).failed == 1
    assert len(MODULES) > 9
