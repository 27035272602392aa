"""Heat map, dendrogram with map, and grid, drawn from what the experiments write about simulated studies."""

import numpy as np

from phaselens.experiments import run_experiments
from phaselens.report import fingerprints as prints
from phaselens.report.models_shown import Member
from phaselens.validity import simulated_fingerprints, simulated_normalisation


def rows_of(panel, name):
    return {t: table.to_pylist() for t, table in run_experiments(panel, [name]).tables.items()}


def test_every_model_and_feature_is_a_cell_and_every_merge_has_its_support():
    panel = simulated_fingerprints.different(np.random.default_rng(0), m=6, size=1.0)
    members = [Member(m.info.name, False, "simulated", 0, m.info.name) for m in panel.models]
    told = rows_of(panel, "fingerprints")
    for layout in (prints.WIDE, prints.NARROW):
        drawn = str(prints.heat_map("x", members, told["fingerprints"], layout))
        assert drawn.count("<rect") == len(told["fingerprints"])
    assert "chance" in prints.heat_caption(told["fingerprints"], told["identification"])
    found = rows_of(panel, "topology")
    parts = (found["topology_models"], found["topology_merges"], found["topology_pairs"])
    for layout in (prints.WIDE, prints.NARROW):
        drawn = str(prints.tree("y", members, *parts, layout))
        models = prints.deciding(found["topology_models"])
        assert drawn.count("<circle") == 2 * len(models) and "Dendrogram" in drawn
    assert "stress" in prints.tree_caption(found["topology"]) and "ARI" in prints.tree_caption(found["topology"])


def test_the_grid_has_a_dash_where_nothing_was_recorded():
    panel = simulated_normalisation.study_of_methods(np.random.default_rng(0), m=4, spreads=(1.0, 0.5))
    rows = rows_of(panel, "normalisation")["normalisation"]
    drawn = str(prints.grid("z", rows, prints.WIDE))
    known = sum(r["estimate"] == r["estimate"] for r in rows)
    assert drawn.count("<circle") == known and drawn.count("—") == len(rows) - known
    assert "95 %" in prints.grid_caption(rows)
