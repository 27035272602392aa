"""Run a model and see its states: generate text, replay it in one pass, or watch it live."""

from phaselens.capture.generate import generate
from phaselens.capture.live import live
from phaselens.capture.plan import Plan
from phaselens.capture.replay import replay
from phaselens.capture.sampling import GREEDY, Sampling
