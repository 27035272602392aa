"""The page and the service of `phaselens watch`: one model, watched token by token in a browser or by an API client."""

from phaselens.watch.app import make_app
from phaselens.watch.completion_request import Talk
from phaselens.watch.desk import Desk
from phaselens.watch.high_values import Thresholds, thresholds_of
from phaselens.watch.limits import Limits
from phaselens.watch.step_view import View
from phaselens.watch.stored_runs import StoredRuns
