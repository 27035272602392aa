"""What the proof costs beside loading, as a command meets both: one folder, one new process.

`python benchmarks/proof.py FOLDER [--threads N]` prints JSON: seconds of the library's `from_pretrained` of network and
tokenizer, of finding the adapter and proving it (nothing kept), of the fingerprint, and the proof over loading.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from phaselens.models import fingerprint, load, prove


def measured(folder: Path) -> dict[str, float]:
    clock = time.perf_counter()
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    if (folder / "tokenizer.json").is_file():
        AutoTokenizer.from_pretrained(folder)
    loaded = time.perf_counter()
    fingerprint(network)
    read = time.perf_counter()
    model = load(network, check=False)  # takes a fingerprint too
    found = time.perf_counter()
    if not prove(model).passed:
        raise SystemExit("error: the proof does not pass")
    proved = time.perf_counter()
    again = time.perf_counter()
    fingerprint(network)
    hashed = time.perf_counter() - again
    proof = max(found - read - hashed, 0.0) + proved - found
    return {
        "load_s": loaded - clock,
        "fingerprint_s": hashed,
        "first_reading_s": read - loaded,
        "proof_s": proof,
        "proof_over_load": proof / (loaded - clock),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print(json.dumps(measured(given.folder)))


if __name__ == "__main__":
    main()
