"""The version of phaselens, on the ground: every floor may say it, and with what it ran."""

import importlib.metadata
import platform
from collections.abc import Iterable

__version__ = "0.1.0"


# What makes the numbers of a trace, and what analyses of stored ones stand on.
MAKING = ("torch", "transformers", "tokenizers", "numpy", "scipy", "pyarrow")
READING = ("numpy", "scipy", "pyarrow")


def versions(packages: Iterable[str] = MAKING) -> dict[str, str]:
    """Versions of phaselens, Python and these installed packages, by name."""
    others = {name: importlib.metadata.version(name) for name in packages}
    return {"phaselens": __version__, "python": platform.python_version(), **others}
