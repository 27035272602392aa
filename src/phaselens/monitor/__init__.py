"""The live monitor: the observables of a study, token by token, on an unchanged `generate` call."""

from phaselens.dynamics.alarms import Rule, Score
from phaselens.monitor.monitor import Monitor
from phaselens.monitor.policy import Policy
from phaselens.monitor.steps import Alarm, Restart, Step
from phaselens.monitor.stream import Stream
from phaselens.monitor.threshold_card import Card, read_card, write_card
from phaselens.monitor.watcher import MonitorWarning
