"""What grows with a study: the driver with its units, a resume with the files, analyses with the tokens.

Units are simulated (their worker does nothing), files are real: four a unit, sealed as a study's, in one folder.
Analyses are those of `benchmarks/analysis.py` on simulated models with 1, 4 and 16 times the prompts (`--quick`: 1 and
4). What files and analyses take is measured in processes of their own: CPU seconds, which a busy machine moves little,
wall seconds where they say so, and peak memory (MB). Exponents are slopes of log CPU seconds over log size between the
ends. `folders` says what 10,000 to 1,000,000 empty files in a folder take. Run as
`python benchmarks/scale.py [--quick]`.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import math
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peak_memory import high_water_mb

HERE = Path(__file__).resolve().parent
UNITS, QUICK_UNITS = (10_000, 100_000), (2_000, 20_000)
FOLDERS, QUICK_FOLDERS = (10_000, 100_000, 1_000_000), (10_000, 100_000)
MODELS, TIMES, QUICK_TIMES = 6, (1, 4, 16), (1, 4)
FILES = ("a", "b", "c", "d")
LEFT_OUT = 100  # one unit of so many is missing


@dataclass(frozen=True)
class Simulated:
    """A unit that a worker of no model does at once."""

    key: str
    model: str
    need: float = 0.0

    def to_json(self) -> str:
        return json.dumps([self.key, self.model])

    @classmethod
    def from_json(cls, text: str) -> "Simulated":
        return cls(*json.loads(text))

    @staticmethod
    def worker(root: str, threads: int = 0) -> "Idle":
        return Idle()


class Idle:
    """Does nothing."""

    def do(self, unit: Simulated, hear=None):
        from phaselens.engines.engine import Done

        return Done(unit.key, tokens=1)


def driver_seconds(n: int, workers: int, folder: Path) -> tuple[float, float]:
    """Wall and CPU seconds in which a driver hands out n units, hears of each, and writes a line of its diary."""
    from phaselens.engines.local_processes import LocalEngine
    from phaselens.studies.store.folder import log

    units = [Simulated(f"{i:024x}", f"m{i % 1000}") for i in range(n)]
    engine, started = LocalEngine(workers), (time.perf_counter(), time.process_time())
    engine.run(units, str(folder), lambda done: log(folder, "observe", model="m", tokens=done.tokens, seconds=0.0))
    seconds = time.perf_counter() - started[0], time.process_time() - started[1]
    engine.close()
    return seconds


def units_of(n: int) -> list:
    """N units of four files each."""
    from phaselens.studies.worker import Unit

    return [Unit("observe", f"m{i % 1000}", i, tuple(f"traces/{i:020x}.{end}.json" for end in FILES)) for i in range(n)]


def write_units(n: int, folder: Path) -> None:
    """The files of n units but for every hundredth, sealed, of about 2 KB."""
    from phaselens.trace.seal import json_bytes

    data = json_bytes({"x": "y" * 2000})
    (folder / "traces").mkdir(parents=True)
    for unit in units_of(n)[n // LEFT_OUT :]:
        for name in unit.files:
            (folder / name).write_bytes(data)


def measured(what: str, n: int, folder: Path) -> dict:
    """What it takes to list n units ("list"), or to find which are missing, by the hash of every file ("resume")."""
    command = [sys.executable, str(Path(__file__)), "--measure", what, str(n), str(folder)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def measure(what: str, n: int, folder: Path) -> dict:
    """The same in this process."""
    from phaselens.studies.store.location import Place
    from phaselens.studies.worker import missing

    place, units = Place(folder), units_of(n) if what == "resume" else []
    before, wall, cpu = high_water_mb(), time.perf_counter(), time.process_time()
    found = len(missing(place, units)) if units else len(place.names())
    seconds = {"cpu_seconds": time.process_time() - cpu, "wall_seconds": time.perf_counter() - wall}
    left = n // LEFT_OUT
    assert found == (left if units else len(FILES) * (n - left)), found
    return {**seconds, "peak_mb": high_water_mb(), "before_mb": before}


def folder_of(n: int, place: Path) -> dict:
    """What a folder of n empty files takes: to make a file, to list them all, and its own entry on disk."""
    folder = place / f"folder{n}"
    folder.mkdir()
    started = time.perf_counter()
    for i in range(n):
        os.close(os.open(folder / f"{i:020x}.layers.parquet", os.O_CREAT | os.O_WRONLY))
    made, started = time.perf_counter() - started, time.perf_counter()
    assert sum(1 for _ in os.scandir(folder)) == n
    listed, size = time.perf_counter() - started, folder.stat().st_size
    started = time.perf_counter()
    for i in range(0, n, max(1, n // 1000)):
        (folder / f"{i:020x}.layers.parquet").stat()
    looked = (time.perf_counter() - started) / len(range(0, n, max(1, n // 1000)))
    shutil.rmtree(folder)
    return {"make_us": 1e6 * made / n, "list_us": 1e6 * listed / n, "stat_us": 1e6 * looked, "entry_bytes": size / n}


def analysis(times: int, folder: Path) -> dict:
    """Time and memory of all analyses of a study with so many times the prompts."""
    sys.path.insert(0, str(HERE))
    import analysis as simulated

    simulated.PROMPTS, simulated.CALIBRATION = 36 * times, 24
    simulated.ARMS = tuple((c, arm, s, 36 * times if not c else n) for c, arm, s, n in simulated.ARMS)
    real, os.fsync = os.fsync, lambda handle: None
    simulated.write_study(folder, MODELS)
    os.fsync = real
    command = [sys.executable, str(HERE / "analysis.py"), "--measure", str(folder)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def exponent(values: dict[int, float]) -> float:
    """Slope of log value over log size between the ends."""
    few, many = min(values), max(values)
    return math.log(values[many] / values[few]) / math.log(many / few)


def analyses(times: Sequence[int], place: Path) -> dict:
    """Time and memory of analyses by size, and how they grow."""
    runs = {}
    for n in times:
        runs[n] = analysis(n, place / f"analysis{n}")
        shutil.rmtree(place / f"analysis{n}")
        print(f"{n} x: {runs[n]['cpu_seconds']} s, {runs[n]['peak_mb']} MB", file=sys.stderr)
    peak = {n: run["peak_mb"] for n, run in runs.items()}
    return {
        **{f"analysis_memory_ratio_{n}x": peak[n] / peak[1] for n in peak if n > 1},
        "analysis_memory_mb": peak,
        "analysis_cpu_seconds": {n: run["cpu_seconds"] for n, run in runs.items()},
        "analysis_time_exponent": exponent({n: run["cpu_seconds"] for n, run in runs.items()}),
    }


def main() -> None:
    """Measure and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a fifth of the units, and 1 and 4 times the tokens")
    parser.add_argument("--only", choices=("driver", "files", "analyses"), help="a part of it")
    parser.add_argument("--measure", nargs=3, metavar=("WHAT", "UNITS", "FOLDER"), help="list or resume, here")
    given = parser.parse_args()
    if given.measure:
        what, n, folder = given.measure
        print(json.dumps(measure(what, int(n), Path(folder))))
        return
    few, many = QUICK_UNITS if given.quick else UNITS
    found: dict = {"quick": given.quick, "units": [few, many], "files_a_unit": len(FILES)}
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        if given.only in (None, "driver"):
            found |= driver(few, many, place)
        if given.only in (None, "files"):
            found |= files(few, many, place)
            found["folders"] = {n: folder_of(n, place) for n in (QUICK_FOLDERS if given.quick else FOLDERS)}
        if given.only in (None, "analyses"):
            found |= analyses(QUICK_TIMES if given.quick else TIMES, place)
    print(json.dumps(rounded(found), indent=2))


def driver(few: int, many: int, place: Path) -> dict:
    """How fast the driver hands out units."""
    drive = {n: driver_seconds(n, 1, place) for n in (few, many)}
    return {
        "driver_units_per_second": many / drive[many][0],
        "driver_units_per_cpu_second": many / drive[many][1],
        "driver_units_per_second_2_processes": few / driver_seconds(few, 2, place)[0],
        "driver_exponent": exponent({n: cpu for n, (_, cpu) in drive.items()}),
    }


def files(few: int, many: int, place: Path) -> dict:
    """What listing and resuming take, at both numbers of units."""
    found: dict = {}
    for n in (few, many):
        write_units(n, place / f"units{n}")
    for what in ("list", "resume"):
        runs = {n: measured(what, n, place / f"units{n}") for n in (few, many)}
        found |= {what: runs, f"{what}_seconds_100k": runs[many]["cpu_seconds"] * 100_000 / many}
        found[f"{what}_exponent"] = exponent({n: run["cpu_seconds"] for n, run in runs.items()})
    for n in (few, many):
        shutil.rmtree(place / f"units{n}")
    return found


def rounded(value: Any) -> Any:
    """Floats to four digits behind the point."""
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    return round(value, 4) if isinstance(value, float) else value


if __name__ == "__main__":
    main()
