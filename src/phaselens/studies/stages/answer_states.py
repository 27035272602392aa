"""The state that an answer begins with, kept for every graded run: what the linear probe of correctness reads."""

import time
from dataclasses import replace

import numpy as np
import torch

from phaselens.capture import replay
from phaselens.dynamics.correctness_scores import EARLY
from phaselens.models import Model
from phaselens.studies.stages.models_and_prompts import Member, model_of
from phaselens.studies.stages.traces import Tick, Work
from phaselens.studies.stages.units import transcript_path
from phaselens.studies.store.answer_state_files import beginnings_path
from phaselens.studies.store.run_grades import graded, grades_of
from phaselens.trace.seal import arrays_bytes, is_sound
from phaselens.trace.store import atomic_write
from phaselens.trace.tile import Tile
from phaselens.trace.transcripts import Transcripts, read_jsonl


class Beginnings:
    """Mean state of the first 8 steps of every run at one layer: a reducer without columns."""

    def __init__(self) -> None:
        self.sums: dict[int, torch.Tensor] = {}
        self.counts: dict[int, int] = {}

    def update(self, tile: Tile) -> None:
        """Add what one tile has of them."""
        wanted = tile.valid & (tile.step >= 0) & (tile.step < EARLY)
        found = (tile.hidden[:, 0] * wanted.unsqueeze(-1)).sum(1).cpu()
        for run, state, count in zip(tile.run.tolist(), found, wanted.sum(1).tolist(), strict=True):
            self.sums[run] = self.sums[run] + state if run in self.sums else state
            self.counts[run] = self.counts.get(run, 0) + count


def beginnings(model: Model, said: Transcripts, layer: int) -> np.ndarray:
    """Mean state of the first 8 generated steps at a layer, float32 [run, d_model]; NaN: a run without a step."""
    kept = Beginnings()
    early = tuple(replace(t, completion_ids=t.completion_ids[:EARLY]) for t in said)
    replay(model, replace(said, runs=early), kept, layers=(layer,))
    rows = [kept.sums[t.run] / kept.counts[t.run] if kept.counts[t.run] else kept.sums[t.run] * np.nan for t in said]
    return torch.stack(rows).numpy().astype(np.float32)


def make_answers(work: Work, member: Member, tick: Tick) -> None:
    """Keep the states of every unit of one model with graded runs, or pass over what is on disk."""
    layer = round(0.75 * member.facts["n_layers"])
    for unit in work.mine(work.units(member)):
        started, path = time.monotonic(), beginnings_path(work.folder, unit.name)
        there = is_sound(path)
        if not there and not unit.paired:
            said = read_jsonl(transcript_path(work.folder, unit))
            if np.isfinite(grades_of(graded(said, work.grader).runs)).any():
                states = beginnings(model_of(work.study, member, work.shelf), said, layer)
                atomic_write(path, arrays_bytes({"states": states}, {"unit": unit.name}))
            elif work.part is not None:  # it was asked for, so that nothing is to be kept is written down
                atomic_write(path, arrays_bytes({"states": np.zeros((0, 0))}, {"unit": unit.name}))
        tick(0, time.monotonic() - started, there)
