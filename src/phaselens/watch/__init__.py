"""The page and the service of `phaselens watch`: one model, watched token by token in a browser or by an API client."""

from phaselens.watch.app import make_app
from phaselens.watch.asked import Talk
from phaselens.watch.desk import Desk
from phaselens.watch.limits import Limits
from phaselens.watch.runs import StoredRuns
from phaselens.watch.thresholds import Thresholds, thresholds_of
from phaselens.watch.view import View

__all__ = ["Desk", "Limits", "StoredRuns", "Talk", "Thresholds", "View", "make_app", "thresholds_of"]
