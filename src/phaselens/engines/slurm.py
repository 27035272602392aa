"""Slurm by submitit: one array of jobs, each with its part of the units; what a lost job leaves is submitted again."""

import tempfile
from collections.abc import Sequence

from phaselens.engines.engine import Done, Hear, Serving, Unit, by_cards
from phaselens.errors import missing_extra

MARGIN = 1.25  # of memory asked for over what a unit needs
WAIT = 0.2  # seconds between two looks at the jobs


def parts(units: Sequence[Unit], n: int) -> list[list[Unit]]:
    """The units in n parts of nearly equal size, those of one model together; empty parts are left out."""
    ordered = sorted(units, key=lambda unit: unit.model)
    ends = [len(ordered) * i // n for i in range(n + 1)]
    return [ordered[a:b] for a, b in zip(ends, ends[1:], strict=False) if a < b]


def _serve(kind: type[Unit], root: str, texts: Sequence[str]) -> list[str]:
    """One job: all units of its part, one after the other."""
    serving = Serving(kind, root)
    return [serving.do(text) for text in texts]


class SlurmEngine:
    """An array of at most `max_parallel` jobs in `partition`; `cluster="local"` starts them as processes here.

    A job asks for the memory that its largest unit needs, and with `gpus` for as many cards of `card` bytes: models
    that need as many are one array, large ones first. `hours` bounds a job.
    `logs` is the folder of submitit's scripts and logs, which every node must see. Needs the extra `slurm`.
    """

    def __init__(
        self,
        partition: str | None = None,
        max_parallel: int = 16,
        *,
        cluster: str = "slurm",
        gpus: bool = False,
        card: float = 80e9,
        hours: float = 12.0,
        logs: str | None = None,
    ) -> None:
        try:
            import submitit
        except ImportError as error:
            raise missing_extra("the engine slurm", "submitit", "slurm") from error
        self._submitit, self._cluster, self._parallel = submitit, cluster, max_parallel
        self._asked: dict[str, object] = {"timeout_min": int(hours * 60)}
        self.by_need, self._gpus, self._card = cluster != "local", gpus, card
        if partition is not None:
            self._asked["slurm_partition"] = partition
        self._logs = logs

    def run(self, units: Sequence[Unit], root: str, hear: Hear) -> None:
        """Submit an array and wait for its jobs; what a job says is heard when it ends."""
        for cards, some in by_cards(units, self._card) if self._gpus else [(0, units)] if units else []:
            self._run(some, int(cards), root, hear)

    def _run(self, units: Sequence[Unit], cards: int, root: str, hear: Hear) -> None:
        executor = self._submitit.AutoExecutor(folder=self._logs or tempfile.mkdtemp(), cluster=self._cluster)
        need = MARGIN * max(u.need for u in units) / 1e9
        asked = {"mem_gb": max(1, round(need))} if need else {}
        asked |= {"gpus_per_node": cards} if cards else {}
        executor.update_parameters(name="phaselens", slurm_array_parallelism=self._parallel, **asked, **self._asked)
        kind = type(units[0])
        with executor.batch():
            jobs = [
                executor.submit(_serve, kind, root, [u.to_json() for u in part])
                for part in parts(units, self._parallel)
            ]
        for job in self._submitit.helpers.as_completed(jobs, poll_frequency=WAIT):
            try:
                said = job.result()
            except (self._submitit.core.utils.UncompletedJobError, self._submitit.core.utils.FailedJobError):
                continue  # killed, or out of its time: its units stay missing
            for text in said:
                hear(Done.from_json(text))

    def close(self) -> None:
        """Nothing stays behind a job."""
