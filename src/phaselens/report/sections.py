"""The sections of the page in their order. A new one: a module with a `Section`, and its name here."""

from phaselens.report import (
    ambiguity,
    correctness,
    cycles,
    depth_curves,
    differences,
    fingerprints,
    gd,
    interventions,
    model_ranks,
    motifs,
    observability,
    phase_map,
    probe_section,
    run_picture,
    states,
    validity,
    variance,
)
from phaselens.report.section import Section

SECTIONS: tuple[Section, ...] = (
    differences.SECTION,
    phase_map.SECTION,
    run_picture.SECTION,
    gd.SECTION,
    depth_curves.SECTION,
    variance.SECTION,
    model_ranks.SECTION,
    states.SECTION,
    motifs.SECTION,
    cycles.SECTION,
    ambiguity.SECTION,
    correctness.SECTION,
    probe_section.SECTION,
    observability.SECTION,
    interventions.SECTION,
    fingerprints.FINGERPRINTS,
    fingerprints.TOPOLOGY,
    fingerprints.NORMALISATION,
    validity.SECTION,
)
