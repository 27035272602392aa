"""Keeps what a monitor measured, for a trace at the end; what a restart takes back is dropped."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from phaselens.models import Model
from phaselens.monitor.meters import Columns, Meters
from phaselens.observing.recording import Gathered, column_info, texts_of
from phaselens.trace import Trace
from phaselens.trace.transcripts import Transcript, Transcripts


class Recorder:
    """Rows of all runs, and the token ids of their prompts. Its memory grows with the number of steps."""

    def __init__(self, model: Model, meters: Meters) -> None:
        self._model, self._meters = model, meters
        self._parts: list[tuple[Columns, Columns]] = []
        self._prompts: dict[int, tuple[int, ...]] = {}

    def begin(self, prompts: Mapping[int, tuple[int, ...]]) -> None:
        """Take the prompts of new runs, by number."""
        self._prompts |= prompts

    def keep(self, steps: Columns, layers: Columns) -> None:
        """Take the rows of one step."""
        self._parts.append((steps, layers))

    def withdraw(self, run: int, after: int) -> None:
        """Drop the steps of a run after step `after`."""

        def kept(rows: Columns) -> Columns:
            stays = (rows["run"] != run) | (rows["step"] <= after)
            return {name: values[stays] for name, values in rows.items()}

        self._parts = [(kept(steps), kept(layers)) for steps, layers in self._parts]

    def trace(self, meta: dict[str, Any]) -> tuple[Transcripts, Trace]:
        """What was said and its trace, as `live` and `observe` give them."""
        gathered = Gathered()
        for part in self._parts:
            gathered(*part)
        steps, layers = gathered.table("steps"), gathered.table("layers")
        runs = tuple(
            Transcript(
                run=number,
                prompt_ids=self._prompts[number],
                completion_ids=tuple(int(t) for t in steps["token"][steps["run"] == number]),
                prompt_id=f"p{number:04d}",
                finish="stopped",
                arm="monitor",
            )
            for number in np.unique(steps["run"]).tolist()
        )
        said = Transcripts(runs, {}, self._model.fingerprint)
        steps |= texts_of(self._model, said, steps)
        return said, Trace.from_rows(steps, layers, said.run_rows(), meta, column_info(self._meters), None)
