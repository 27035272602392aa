"""What grows with a study: the driver with its units, a resume with the files, analyses with the tokens.

Units are simulated (their worker does nothing), files are real: four a unit, sealed as a study's, in one folder.
Analyses are those of `benchmarks/analysis.py` on simulated models with 1, 4 and 16 times the prompts (`--quick`: 1 and
4), each in a process of its own. Exponents are slopes of log time over log size between the ends. Run as
`python benchmarks/scale.py [--quick]`.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
UNITS, QUICK_UNITS = (10_000, 100_000), (2_000, 20_000)
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

    def do(self, unit: Simulated):
        from phaselens.engines.engine import Done

        return Done(unit.key, tokens=1)


def driver_seconds(n: int, workers: int, folder: Path) -> float:
    """Seconds in which a driver hands out n units, hears of each, and writes a line of its diary."""
    from phaselens.engines.local_processes import LocalEngine
    from phaselens.studies.store.folder import log

    units = [Simulated(f"{i:024x}", f"m{i % 1000}") for i in range(n)]
    engine, started = LocalEngine(workers), time.perf_counter()
    engine.run(units, str(folder), lambda done: log(folder, "observe", model="m", tokens=done.tokens, seconds=0.0))
    seconds = time.perf_counter() - started
    engine.close()
    return seconds


def resume_seconds(n: int, folder: Path) -> float:
    """Seconds in which what is missing of n units, 99 % of them whole, is found by the hashes of their four files."""
    from phaselens.studies.store.location import Place
    from phaselens.studies.worker import Unit, missing
    from phaselens.trace.seal import json_bytes

    data, units = json_bytes({"x": "y" * 2000}), []
    for i in range(n):
        files = tuple(f"traces/{i:020x}.{end}.json" for end in FILES)
        units.append(Unit("observe", f"m{i % 1000}", i, files))
        if i >= n // LEFT_OUT:
            for name in files:
                path = folder / name
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(data)
    place, started = Place(folder), time.perf_counter()
    left = missing(place, units)
    seconds = time.perf_counter() - started
    assert len(left) == n // LEFT_OUT, len(left)
    return seconds


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


def main() -> None:
    """Measure and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a fifth of the units, and 1 and 4 times the tokens")
    quick = parser.parse_args().quick
    few, many = QUICK_UNITS if quick else UNITS
    found: dict = {"quick": quick, "units": [few, many], "files_a_unit": len(FILES)}
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        drive = [driver_seconds(n, 1, place) for n in (few, many)]
        found["driver_units_per_second"] = many / drive[1]
        found["driver_units_per_second_2_processes"] = few / driver_seconds(few, 2, place)
        found["driver_exponent"] = math.log(drive[1] / drive[0]) / math.log(many / few)
        resumed = []
        for n in (few, many):
            folder = place / f"resume{n}"
            folder.mkdir()
            resumed.append(resume_seconds(n, folder))
        found["resume_seconds_100k"] = resumed[1] * 100_000 / many
        found["resume_exponent"] = math.log(resumed[1] / resumed[0]) / math.log(many / few)
        runs = {}
        for times in QUICK_TIMES if quick else TIMES:
            runs[times] = analysis(times, place / f"analysis{times}")
            print(f"{times} x: {runs[times]['cpu_seconds']} s, {runs[times]['peak_mb']} MB", file=sys.stderr)
        last = max(runs)
        found["analysis_memory_ratio_4x"] = runs[4]["peak_mb"] / runs[1]["peak_mb"]
        found["analysis_memory_mb"] = {str(k): v["peak_mb"] for k, v in runs.items()}
        found["analysis_cpu_seconds"] = {str(k): v["cpu_seconds"] for k, v in runs.items()}
        found["analysis_time_exponent"] = math.log(runs[last]["cpu_seconds"] / runs[1]["cpu_seconds"]) / math.log(last)
    print(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in found.items()}, indent=2))


if __name__ == "__main__":
    main()
