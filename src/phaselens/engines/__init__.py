"""What carries a study out. `local` does it on this machine; units of work are idempotent, so others may do theirs."""

from phaselens.engines.events import Event
from phaselens.engines.local import Outcome, run_study

__all__ = ["Event", "Outcome", "run_study"]
