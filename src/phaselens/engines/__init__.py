"""Engines: what hands units of work to processes and machines, and says what happened."""

from phaselens.engines.engine import Engine
from phaselens.errors import unknown_name

NAMES = ("local", "ray", "slurm")


def engine_named(
    name: str,
    *,
    workers: int | None = None,
    device: str = "cpu",
    address: str = "auto",
    cluster: str = "slurm",
    partition: str | None = None,
) -> Engine:
    """The engine of this name: `local` (one worker per GPU, or `workers` on the CPU), `ray` or `slurm`.

    Raises UnknownNameError for another name, MissingExtra where its library is not here.
    """
    gpus = device.startswith("cuda")
    if name == "local":
        from phaselens.engines.local_processes import LocalEngine, visible_devices

        return LocalEngine(workers or 1, visible_devices(workers) if gpus else ())
    if name == "ray":
        from phaselens.engines.ray_cluster import RayEngine

        return RayEngine(address, workers, gpus=gpus)
    if name == "slurm":
        from phaselens.engines.slurm import SlurmEngine

        return SlurmEngine(partition, workers or 16, cluster=cluster, gpus=int(gpus))
    raise unknown_name("engine", name, NAMES)
