"""Units that stop half way until somebody ends their process: for tests that end it there and nowhere else."""

import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from phaselens.engines.engine import Done, Hear
from phaselens.studies.worker import Unit, Worker

SIGN = "stalled"  # beside the study: who stands still, and where


@dataclass(frozen=True)
class Stalls(Unit):
    """A unit of a study; the first of the second model's `observe` stops when part of its tokens are done, once."""

    @staticmethod
    def worker(root: str, threads: int = 0) -> "StallingWorker":
        return StallingWorker(root, threads)


class StallingWorker(Worker):
    """Does units, but for one that it begins."""

    def do(self, unit: Unit, hear: Hear | None = None) -> Done:
        def half_way(done: Done) -> None:
            if unit.stage == "observe" and unit.model == "llama0" and unit.part == 1:
                stand_still(Path(self.place.root).parent / SIGN)
            if hear is not None:
                hear(done)

        return super().do(unit, half_way)


def stand_still(sign: Path) -> None:
    """Write who stands still and where, unless somebody did before, and wait to be ended."""
    try:
        file = os.open(sign, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
        return
    os.write(file, f"{os.getpid()} {node()}".encode())
    os.close(file)
    time.sleep(600)


def node() -> str:
    """The node of a Ray cluster that this process is on; "-": none."""
    import sys

    if "ray" not in sys.modules or not sys.modules["ray"].is_initialized():
        return "-"
    return sys.modules["ray"].get_runtime_context().get_node_id()


def awaited(sign: Path, seconds: float = 240.0) -> tuple[int, str]:
    """Process and node of who stands still, as soon as somebody does."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if sign.is_file() and sign.read_text().count(" "):
            pid, place = sign.read_text().split()
            return int(pid), place
        time.sleep(0.02)
    raise TimeoutError(f"nobody stood still within {seconds} s")


class Stalling:
    """An engine whose units are these."""

    def __init__(self, engine) -> None:
        self.engine, self.by_need = engine, engine.by_need

    def run(self, units, root, hear) -> None:
        self.engine.run([Stalls(**asdict(unit)) for unit in units], root, hear)

    def close(self) -> None:
        self.engine.close()
