"""What is read out of a model's states at labelled places: examples, capture, and everything that judges a reading."""

from phaselens.readings.analysis import Reading, Settings, analyse
from phaselens.readings.examples import Columns, Example, Examples, Flag, read_examples
from phaselens.readings.place_states import States, capture_states
from phaselens.readings.probe_files import load_probes, save_probes
from phaselens.readings.world_tasks import TASKS, ReadingTask, examples_of
