"""Instrument validity: simulated studies with a known truth, judged by the code that judges real ones.

`SCENARIOS` says what is planted; `validate` counts what the rules say about it.
"""

from phaselens.validity.runner import GOAL, QUICK_STUDIES, STUDIES, Tally, tally, validate, wilson
from phaselens.validity.scenario import Ruling, Scenario, by_experiment
from phaselens.validity.scenario_catalog import SCENARIOS
from phaselens.validity.table import CLAIM_COLUMNS, SCENARIO_COLUMNS, claim_rows, markdown, scenario_rows
