"""What every test needs: no network, one thread, and the trained and the real models where they are present."""

import os
import tempfile
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

# What is kept between commands must not be the user's, nor that of another run of the tests.
KEPT = tempfile.TemporaryDirectory(prefix="phaselens-tests-")
os.environ["PHASELENS_CACHE"] = KEPT.name

SHARED = Path(__file__).parents[1].parent / "shared"
# What `make real` fills: ORG/NAME folders and the *.gguf that they were converted from.
REAL = Path(os.environ.get("PHASELENS_REAL") or Path(__file__).parents[1] / "real")
SMOLLM2, GEMMA3 = "HuggingFaceTB/SmolLM2-135M-Instruct", "google/gemma-3-270m"


def pytest_configure():
    import torch

    torch.set_num_threads(1)


def pytest_collection_modifyitems(items):
    absent = {}
    if not (SHARED / "models").is_dir():
        absent["assets"] = "assets: the folder ../shared with trained models and data is not here"
    if not (REAL / SMOLLM2 / "config.json").is_file():
        absent["real"] = f"real: no {SMOLLM2} in {REAL}; `make real YES=1` brings it, or set PHASELENS_REAL"
    for item in items:
        for mark, reason in absent.items():
            if mark in item.keywords:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of models and data made by others (tests that use it carry the mark `assets`)."""
    return SHARED


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """SmolLM2-135M-Instruct as a folder (tests that use it carry the mark `real`); its file is `real/smollm2.gguf`."""
    return REAL / SMOLLM2


@pytest.fixture(scope="session")
def gemma3() -> Path:
    """Gemma-3-270M (base) as a folder; a test that asks for it is skipped where only SmolLM2 is here."""
    if not (REAL / GEMMA3 / "config.json").is_file():
        pytest.skip(f"real: no {GEMMA3} in {REAL}; `make real YES=1` brings it")
    return REAL / GEMMA3


@pytest.fixture(scope="session")
def smollm2_model(smollm2):
    """The same, loaded and proved once for all tests of a process."""
    from phaselens.models import load

    return load(smollm2)


@pytest.fixture(scope="session")
def gemma3_model(gemma3):
    """The same, loaded and proved once for all tests of a process."""
    from phaselens.models import load

    return load(gemma3)
