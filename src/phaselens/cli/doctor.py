"""`phaselens doctor`: whether this machine has what is needed, and what to do where it has not."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from phaselens.cli.run import AsJson
from phaselens.cli.terminal import print_json, print_table, say
from phaselens.version import __version__

CORE = tuple("torch transformers tokenizers numpy pandas scipy scikit-learn pyarrow safetensors pydantic".split())
# What each extra brings: (extra, import name, what it is for).
EXTRAS = (
    ("tables", "polars", "Trace.to_polars"),
    ("tables", "xarray", "Trace.to_xarray"),
    ("gguf", "gguf", "models in GGUF files"),
    ("report", "resvg_py", "figures as PNG"),
    ("plot", "matplotlib", "Trace.plot"),
    ("query", "duckdb", "SQL over the Parquet files"),
    ("stats", "statsmodels", "REML beside our own shares of variance"),
    ("watch", "starlette", "phaselens watch"),
    ("docs", "mkdocs", "the documentation site"),
)
LOW_DISK = 2e9


@dataclass(frozen=True)
class Check:
    """One line: what was looked at, what was found, whether it is fine (None: only a fact), and what to do."""

    what: str
    found: str
    fine: bool | None = None
    advice: str = ""


def doctor(
    where: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where studies will be written.")] = Path(),
    as_json: AsJson = False,
) -> None:
    """Look at machine, versions, disk, Hub cache and extras. Exit code 2 if something must change."""
    checks = [*_machine(), *_packages(), *_places(where), *_extras()]
    broken = [c for c in checks if c.fine is False]
    if as_json:
        print_json({"fine": not broken, "checks": [vars(c) for c in checks]})
    else:
        marks = {True: "ok", False: "PROBLEM", None: ""}
        print_table(("what", "found", "", "what to do"), [(c.what, c.found, marks[c.fine], c.advice) for c in checks])
        say("nothing is in the way: phaselens run --quick --out demo" if not broken else f"{len(broken)} to settle")
    if broken:
        raise typer.Exit(2)


def _machine() -> list[Check]:
    version = platform.python_version()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return [
        Check("phaselens", __version__),
        Check(
            "Python", version, sys.version_info >= (3, 11), "" if sys.version_info >= (3, 11) else "use 3.11 or newer"
        ),
        Check("system", f"{platform.system()} {platform.machine()}"),
        Check("cores", str(cores)),
        Check("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "not set"), None, _threads(cores)),
        Check("memory", _memory()),
    ]


def _threads(cores: int) -> str:
    said = os.environ.get("OMP_NUM_THREADS")
    if said is None and cores > 1:
        return "bundled models run faster with OMP_NUM_THREADS=1"
    return ""


def _memory() -> str:
    try:
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return "not known"
    return f"{pages / 1e9:.0f} GB"


def _packages() -> list[Check]:
    out = [_package(name) for name in CORE]
    if importlib.util.find_spec("torch") is not None:
        import torch

        kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu only"
        name = torch.cuda.get_device_name() if kind == "cuda" else ""
        out.append(Check("device", f"{kind} {name}".strip(), None, "--device cuda" if kind == "cuda" else ""))
    return out


def _package(name: str) -> Check:
    try:
        return Check(name, importlib.metadata.version(name), True)
    except importlib.metadata.PackageNotFoundError:
        return Check(name, "not installed", False, f"pip install {name}")


def _places(where: Path) -> list[Check]:
    """Disk and write access where studies go, and the Hub cache."""
    place = next(p for p in (where, *where.resolve().parents) if p.exists())
    free = shutil.disk_usage(place).free
    writable = os.access(place, os.W_OK)
    cache = _cache()
    return [
        Check("output folder", str(where.resolve()), writable, "" if writable else "choose a folder you may write in"),
        Check("free disk there", f"{free / 1e9:.1f} GB", free > LOW_DISK, "" if free > LOW_DISK else "make room"),
        Check("Hub cache", cache, None, "" if Path(cache).is_dir() else "empty: models come from the Hub or a folder"),
        Check("HF_HUB_OFFLINE", os.environ.get("HF_HUB_OFFLINE", "not set")),
        Check("bundled organisms", *_organisms()),
    ]


def _cache() -> str:
    try:
        from huggingface_hub import constants
    except ImportError:
        return "not known (huggingface_hub is not installed)"
    return os.environ.get("HF_HUB_CACHE") or constants.HF_HUB_CACHE


def _organisms() -> tuple[Any, ...]:
    """How many bundled models are there, without loading a model library."""
    folder = Path(__file__).parents[1] / "organisms" / "weights"
    count = len(list(folder.glob("*/model.safetensors")))
    return str(count), count > 0, "" if count else "the package lacks its weights: install it again"


def _extras() -> list[Check]:
    return [
        Check(f"extra {extra}: {name}", "installed", None, use)
        if importlib.util.find_spec(name)
        else Check(f"extra {extra}: {name}", "not installed", None, f"{use}: pip install 'phaselens[{extra}]'")
        for extra, name, use in EXTRAS
    ]
