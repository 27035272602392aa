"""What every test needs: no network, one thread, and the folder of trained models where it is present."""

import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

SHARED = Path(__file__).parents[1].parent / "shared"


def pytest_configure():
    import torch

    torch.set_num_threads(1)


def pytest_collection_modifyitems(items):
    if (SHARED / "models").is_dir():
        return
    absent = pytest.mark.skip(reason="assets: the folder ../shared with trained models and data is not here")
    for item in items:
        if "assets" in item.keywords:
            item.add_marker(absent)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of models and data made by others (tests that use it carry the mark `assets`)."""
    return SHARED
