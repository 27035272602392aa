"""The scripts of our pages, as text: ES modules on the disk, several put together as one."""

import re
from importlib import resources

IMPORT, EXPORT = re.compile(r"^import .*?;\n", re.M | re.S), re.compile(r"^export (?!default)", re.M)


def source(name: str) -> str:
    """One file of the folder `web/page`."""
    return resources.files("phaselens").joinpath("web", "page", name).read_text(encoding="utf-8")


def script(*names: str) -> str:
    """Several modules as one: they share one scope then, so their top names differ, and import nothing."""
    return "\n".join(EXPORT.sub("", IMPORT.sub("", source(name))) for name in names)
