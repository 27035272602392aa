"""Puts monitors in the way of `network.generate`, each for the calls of the thread that entered it.

The attribute of the one network is exchanged while at least one monitor is on, and put back afterwards; calls of other
threads go to the library as they are.
"""

import threading
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from torch import nn

from phaselens.models.facts import Network


class Watches(Protocol):
    """What stands in for the library's generate."""

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """The library's generate, watched."""


_lock = threading.Lock()
_active: "WeakKeyDictionary[nn.Module, list[tuple[int, Watches]]]" = WeakKeyDictionary()


def intercept(network: Network, monitor: Watches) -> None:
    """Send the calls of this thread to `monitor` from now on."""
    with _lock:
        entries = _active.setdefault(network, [])
        entries.append((threading.get_ident(), monitor))
        if len(entries) == 1:
            _exchange(network)


def release(network: Network, monitor: Watches) -> None:
    """Take a monitor out again; the last one puts the network back as it was."""
    with _lock:
        entries = _active[network]
        entries[:] = [entry for entry in entries if entry[1] is not monitor]
        if not entries:
            del _active[network]
            before = network.__dict__.pop("generate").unwatched
            if before is not None:
                network.generate = before


def _exchange(network: Network) -> None:
    own = network.__dict__.get("generate")
    library = network.generate

    def generate(*args: Any, **kwargs: Any) -> Any:
        here = threading.get_ident()
        mine = [monitor for thread, monitor in _active.get(network, ()) if thread == here]
        return mine[-1].generate(*args, **kwargs) if mine else library(*args, **kwargs)

    generate.unwatched = own  # type: ignore[attr-defined]
    network.generate = generate
