"""What can be read from which layer: batched fitters whose results are frozen, and what such a reading is worth."""

from phaselens.probes.crossfit import HeldOut, Task, cross_fit, make_task
from phaselens.probes.folds import grouped_folds
from phaselens.probes.frozen import Probes
from phaselens.probes.logistic import fit_logistic

__all__ = ["HeldOut", "Probes", "Task", "cross_fit", "fit_logistic", "grouped_folds", "make_task"]
