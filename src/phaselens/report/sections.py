"""The sections of the page in their order. A new one: a module with a `Section`, and its name here."""

from phaselens.report import (
    acted,
    ambiguity,
    correctness,
    curves,
    cycles,
    differences,
    gd,
    motifs,
    observability,
    order,
    phase_map,
    prints,
    probe_study,
    states,
    trajectory,
    validity,
    variance,
)
from phaselens.report.section import Section

SECTIONS: tuple[Section, ...] = (
    differences.SECTION,
    phase_map.SECTION,
    trajectory.SECTION,
    gd.SECTION,
    curves.SECTION,
    variance.SECTION,
    order.SECTION,
    states.SECTION,
    motifs.SECTION,
    cycles.SECTION,
    ambiguity.SECTION,
    correctness.SECTION,
    probe_study.SECTION,
    observability.SECTION,
    acted.SECTION,
    prints.FINGERPRINTS,
    prints.TOPOLOGY,
    prints.NORMALISATION,
    validity.SECTION,
)
