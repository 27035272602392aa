"""The references of a study are those of the functions and observables that it used, and of no other."""

import pytest

from phaselens.experiments import EXPERIMENTS
from phaselens.observables import CLOUD, OBSERVABLES
from phaselens.statistics import multiplicity
from phaselens.studies.store.references import reached, references, sources


def of(*names):
    return [e for e in EXPERIMENTS if e.name in names]


def named(rows):
    return {row["source"]: row["of"] for row in rows}


def test_an_experiment_brings_the_sources_of_what_it_calls_and_no_others():
    cycles, order = named(references(of("cycles"), ())), named(references(of("order"), ()))
    assert cycles["Kaplan and Meier 1958"] == ["survival"] and "Kaplan and Meier 1958" not in order
    assert order["Kendall and Smith 1939"] == ["kendall_w"] and "Kendall and Smith 1939" not in cycles
    assert cycles["Holm 1979"] == order["Holm 1979"] == ["holm"]


def test_a_recorded_observable_brings_its_source_under_any_lens():
    source = next(iter(sources(next(o for o in OBSERVABLES if o.name == "lens_sync").fn.__doc__)))
    assert named(references([], ["lens_sync__raw", "run", "step"]))[source] == ["lens_sync"]
    assert source not in named(references([], ["entropy"]))


@pytest.mark.parametrize("one", OBSERVABLES + CLOUD, ids=lambda one: one.name)
def test_every_observable_is_found_by_its_name(one):
    wanted = sources(one.fn.__doc__)
    assert set(wanted) <= set(named(references([], [one.name])))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("A share.\n\nSource: Holm 1979.", ["Holm 1979"]),
        ("Source: Hoeffding 1948; Efron and\n    Stein 1981.", ["Hoeffding 1948", "Efron and Stein 1981"]),
        ("Source: docs/definitions, section 5.", []),
        (
            "Source: docs/definitions, section 1; massive activations after Sun 2024.",
            ["massive activations after Sun 2024"],
        ),
        ("Nothing is named.", []),
    ],
)
def test_sources_are_what_has_a_year(text, found):
    assert sources(text) == found


def test_functions_are_followed_through_modules_and_each_is_met_once():
    def entry():
        return multiplicity.holm

    entry.__module__ = "phaselens.somewhere"
    met = [f.__name__ for f in reached([entry, entry])]
    assert met.count("entry") == 1 and "holm" in met
