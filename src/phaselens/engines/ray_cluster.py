"""Ray: actors on the machines of a cluster, each with one model, given their next unit as they finish one."""

import logging
import os
from collections.abc import Sequence
from typing import Any

from phaselens.engines.engine import Done, Hear, Queue, Serving, Unit, by_cards
from phaselens.errors import InputError, missing_extra

log = logging.getLogger(__name__)
TENTHS = 10  # of a card that small models share


class RayEngine:
    """Actors of a Ray cluster at `address` ("local": a new one on this machine; "auto": the one that RAY_ADDRESS names
    or this machine belongs to, and where there is none, which is said, a new one here).

    An actor takes one CPU, and with `gpus` the share of a card of `card` bytes that its model needs, whole cards beyond
    one; models of one share are done at a time, large ones first. A machine that is lost takes its actors and their
    units with it; the others go on. `workers` bounds the actors (default: as many as fit). Needs the extra `ray`.
    """

    def __init__(
        self, address: str = "auto", workers: int | None = None, *, gpus: bool = False, card: float = 80e9
    ) -> None:
        try:
            import ray
        except ImportError as error:
            raise missing_extra("the engine ray", "ray", "ray") from error
        self._ray, self._workers, self.by_need, self._card = ray, workers, gpus, card
        if not ray.is_initialized():
            self._join(address)
        self._actors: dict[object, str | None] = {}
        self._share = 0.0

    def _join(self, address: str) -> None:
        local = {"include_dashboard": False} if address == "local" else {}
        try:
            self._ray.init(address, logging_level="ERROR", log_to_driver=False, **local)
        except (ConnectionError, ValueError, RuntimeError) as error:
            if address != "auto" or os.environ.get("RAY_ADDRESS"):
                raise InputError(
                    f"no Ray cluster answers at {address!r}: {error}. Give --address, or local."
                ) from error
            log.warning("no Ray cluster here: one is started on this machine (--address names another)")
            self._join("local")

    def run(self, units: Sequence[Unit], root: str, hear: Hear) -> None:
        """Do the units on as many actors as fit; those of earlier calls first, with what they hold."""
        for share, some in by_cards(units, self._card, TENTHS) if self.by_need else [(0.0, units)]:
            if share != self._share:
                self.close()
            self._share = share
            self._run(some, root, hear)

    def _run(self, units: Sequence[Unit], root: str, hear: Hear) -> None:
        ray, queue, busy = self._ray, Queue(units), {}
        for _ in range(max(0, min(len(units), self._room()) - len(self._actors))):
            self._actors[self._actor(units, root)] = None

        def give(actor: Any) -> None:
            unit = queue.take(self._actors[actor])
            if unit is not None:
                self._actors[actor] = unit.model
                busy[actor.do.remote(unit.to_json())] = actor

        for actor in list(self._actors):
            give(actor)
        while busy:
            (ready, *_), _ = ray.wait(list(busy), num_returns=1)
            actor = busy.pop(ready)
            try:
                done = Done.from_json(ray.get(ready))
            except ray.exceptions.RayError:  # the actor, or its machine, is gone: the unit stays missing
                self._actors.pop(actor, None)
                continue
            if done.error:
                queue.drop(self._actors[actor] or "")
            hear(done)
            give(actor)

    def _room(self) -> int:
        """How many actors the cluster has room for."""
        found = self._ray.cluster_resources()
        fit = found.get("GPU", 0) / self._share if self._share else found.get("CPU", 1)
        return max(1, int(min(fit, self._workers or fit)))

    def _actor(self, units: Sequence[Unit], root: str) -> object:
        options: dict = {"num_cpus": 1, "max_restarts": 0, **({"num_gpus": self._share} if self._share else {})}
        return self._ray.remote(Serving).options(**options).remote(type(units[0]), root)

    def close(self) -> None:
        """End the actors."""
        for actor in self._actors:
            self._ray.kill(actor)
        self._actors.clear()
