"""Partial conjunction: the u-th smallest p-value, corrected for those that may be null."""

import math

import numpy as np
import pytest

from phaselens.statistics.multiplicity import partial_conjunction


def test_one_of_all_is_bonferroni_and_all_of_all_is_the_largest():
    p = np.array([0.03, 0.01, 0.2])
    assert partial_conjunction(p, 1) == pytest.approx(0.03)
    assert partial_conjunction(p, 2) == pytest.approx(0.06)
    assert partial_conjunction(p, 3) == 0.2
    assert math.isnan(partial_conjunction(p, 4)) and math.isnan(partial_conjunction(np.array([0.1, math.nan]), 1))


def test_it_holds_its_level_where_one_effect_too_few_is_there():
    g = np.random.default_rng(0)
    p = np.column_stack([np.zeros((4000, 5)), g.random((4000, 2))])  # five true effects of seven; six are claimed
    share = np.mean([partial_conjunction(row, 6) <= 0.05 for row in p])
    assert share <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 4000)
