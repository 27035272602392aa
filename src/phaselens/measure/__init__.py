"""Measure tiles of states: the reducer, and what stands beside it (clouds, normalised geometry, openings, lenses)."""

from phaselens.measure.lenses import LensSpec
from phaselens.measure.reducer import Column, Reducer
