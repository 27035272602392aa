"""Engines: what hands units of work to processes and machines, and says what happened."""

import math

from phaselens.engines.engine import Engine
from phaselens.errors import unknown_name

NAMES = ("local", "ray", "slurm")
GB, CARD = 1e9, 80.0  # of a GPU where nobody says


def engine_named(
    name: str,
    *,
    workers: int | None = None,
    device: str = "cpu",
    address: str = "auto",
    cluster: str = "slurm",
    partition: str | None = None,
    card: float | None = None,
) -> Engine:
    """The engine of this name: `local` (one worker per GPU, or `workers` on the CPU), `ray` or `slurm`.

    `card` is the memory of a GPU in GB (None: as nvidia-smi says here, 80 elsewhere).

    Raises UnknownNameError for another name, MissingExtra where its library is not here.
    """
    gpus = device.startswith("cuda")
    if name == "local":
        from phaselens.engines.local_processes import LocalEngine, card_bytes, visible_devices

        devices = visible_devices(workers) if gpus else ()
        return LocalEngine(workers or 1, devices, card=card * GB if card else card_bytes() if devices else math.inf)
    if name == "ray":
        from phaselens.engines.ray_cluster import RayEngine

        return RayEngine(address, workers, gpus=gpus, card=(card or CARD) * GB)
    if name == "slurm":
        from phaselens.engines.slurm import SlurmEngine

        return SlurmEngine(partition, workers or 16, cluster=cluster, gpus=gpus, card=(card or CARD) * GB)
    raise unknown_name("engine", name, NAMES)
