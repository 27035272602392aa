"""Processes of this machine: one that is this one, several forked on a CPU, or one for each GPU."""

import math
import os
import subprocess
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from phaselens.engines.engine import Done, Hear, Queue, Serving, Unit, Worker, by_cards
from phaselens.engines.forked_workers import hand, heard


def visible_devices(most: int | None = None) -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; at most so many."""
    said = os.environ.get("CUDA_VISIBLE_DEVICES")
    if said is not None:
        return [d for d in said.split(",") if d][:most]
    return [str(i) for i, _ in enumerate(sorted(Path("/proc/driver/nvidia/gpus").glob("*")))][:most]


def card_bytes() -> float:
    """Memory of the smallest GPU of this machine (bytes), as nvidia-smi says; infinite where it does not."""
    asked = ("nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits")
    try:
        said = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=True).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return math.inf
    return min((float(mib) * (1 << 20) for mib in said if mib.isdigit()), default=math.inf)


class _OnDevice(Serving):
    """A worker that sees one GPU alone, or those that its model needs."""

    def __init__(self, kind: type[Unit], root: str, device: str) -> None:
        super().__init__(kind, root)
        self._device = device

    def __call__(self, text: str, say: Any) -> str:
        """Do one unit."""
        if self._device:
            os.environ["CUDA_VISIBLE_DEVICES"] = self._device
        return self.do(text, lambda done: say(done.to_json()))


class LocalEngine:
    """Workers on this machine: `workers` of them on the CPU, or `per_device` on each of the GPUs `devices`.

    One worker on the CPU is this process. Several are forked from it, so that they have the libraries already; those of
    GPUs are started anew, since a fork cannot hold CUDA. A model that needs more than `card` bytes gets a worker of as
    many GPUs; such models are done first.
    """

    def __init__(
        self, workers: int = 1, devices: Sequence[str] = (), per_device: int = 1, card: float = math.inf
    ) -> None:
        self._devices, self._per_device, self._card = tuple(devices), per_device, card
        self._places, self.by_need = [""] * workers, bool(devices)
        self._hands: dict[Connection, tuple[Any, str]] = {}
        self._own: dict[str, Worker] = {}
        self._root = ""

    def run(self, units: Sequence[Unit], root: str, hear: Hear) -> None:
        """Do the units; a worker that is killed takes its unit with it, and the others go on."""
        for cards, some in by_cards(units, self._card) if self.by_need else [(0, units)] if units else []:
            if cards:
                self._places = self._grouped(min(int(cards), len(self._devices)))
            self._run(some, root, hear)

    def _grouped(self, cards: int) -> list[str]:
        """Places of so many GPUs each."""
        ends = range(cards, len(self._devices) + 1, cards)
        return [",".join(self._devices[end - cards : end]) for end in ends for _ in range(self._per_device)]

    def _run(self, units: Sequence[Unit], root: str, hear: Hear) -> None:
        if len(self._places) == 1 and not self._places[0]:
            worker = self._own.setdefault(root, type(units[0]).worker(root))
            queue, model = Queue(units), None
            while (unit := queue.take(model)) is not None:
                model = unit.model
                self._heard(worker.do(unit, hear), model, queue, hear)
            return
        self._start(type(units[0]), root)
        queue = Queue(units)
        held: dict[Connection, str | None] = dict.fromkeys(self._hands)
        busy = [line for line in list(self._hands) if self._give(line, queue, held)]
        while busy:
            for line, kind, value in heard(busy):
                if kind == "said":
                    hear(Done.from_json(value[0]))
                    continue
                if kind == "lost":
                    self._lose(line)
                else:
                    self._heard(Done.from_json(value), held[line], queue, hear)
                if kind == "lost" or not self._give(line, queue, held):
                    busy.remove(line)

    @staticmethod
    def _heard(done: Done, model: str | None, queue: Queue, hear: Hear) -> None:
        if done.error and model is not None:
            queue.drop(model)
        hear(done)

    def _start(self, kind: type[Unit], root: str) -> None:
        """As many workers as there are places; those that live there stay."""
        for line, (_, place) in list(self._hands.items()):
            if root != self._root or place not in self._places:
                self._lose(line)
        self._root = root
        taken = [place for _, place in self._hands.values()]
        for place in self._places:
            if place in taken:
                taken.remove(place)
            else:
                process, line = hand(_OnDevice(kind, root, place), "spawn" if place else "fork")
                self._hands[line] = process, place

    def _give(self, line: Connection, queue: Queue, held: dict[Connection, str | None]) -> bool:
        """Give a worker its next unit; whether there was one."""
        unit = queue.take(held[line])
        if unit is None:
            return False
        held[line] = unit.model
        try:
            line.send(unit.to_json())
        except (BrokenPipeError, ConnectionResetError):  # it was killed between two units; the unit stays missing
            self._lose(line)
            return False
        return True

    def _lose(self, line: Connection) -> None:
        process, _ = self._hands.pop(line)
        line.close()
        process.kill()
        process.join()

    def close(self) -> None:
        """End the workers."""
        for line in list(self._hands):
            self._lose(line)
        self._own.clear()
