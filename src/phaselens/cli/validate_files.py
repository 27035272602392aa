"""Files of `phaselens validate`: the document, the finished studies of an ended run, several documents as one."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from phaselens.claims import REGISTER
from phaselens.cli.terminal import plain
from phaselens.errors import InputError
from phaselens.trace.store import atomic_write


def part(out: Path) -> Path:
    """Where the finished studies of a run lie until it is whole."""
    return out.with_name(f"{out.name}.part")


def kept_in(part: Path, seed: int, say: Callable[[str], None]) -> tuple[dict, Callable[[str, dict], None]]:
    """The blocks that an ended run left in this file, and the function that adds one to it.

    Blocks of another seed or of other code are not used: the file starts again, and that is said.
    """
    head = json.dumps({"seed": seed, "code": _code()})
    lines = part.read_text(encoding="utf-8").splitlines() if part.is_file() else []
    good = [line for line in lines[1:] if _whole(line)] if lines[:1] == [head] else []
    if lines:
        say(f"{part}: " + (f"goes on after {len(good)} blocks." if good else "of another seed or code; starts again."))
    part.write_text("\n".join([head, *good]) + "\n", encoding="utf-8")

    def keep(name: str, rulings: dict) -> None:
        with part.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"block": name, "rulings": plain(rulings)}) + "\n")

    found = [json.loads(line) for line in good]
    return {one["block"]: one["rulings"] for one in found}, keep


def _code() -> str:
    """A digest of this package's source: the studies of changed rules are not mixed with those of the old."""
    files = sorted(Path(__file__).parents[1].rglob("*.py"))
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


def _whole(line: str) -> bool:
    """Whether a line is whole JSON; the last one of a killed run may be torn."""
    try:
        json.loads(line)
    except json.JSONDecodeError:
        return False
    return True


def read(files: Sequence[Path]) -> dict:
    """The documents of these files as one; a claim that stands in several is taken from the last.

    Raises InputError for a file that is not what `--out` wrote, and for documents of different seeds.
    """
    found = [_document(file) for file in files]
    if len({one["seed"] for one in found}) > 1:
        raise InputError(f"documents of one seed are shown together; got {sorted({one['seed'] for one in found})}.")
    claims = {claim: said for one in found for claim, said in one["claims"].items()}
    order = [c.id for c in REGISTER if c.id in claims]
    return {
        **found[0],
        "quick": any(one["quick"] for one in found),
        "studies": min(one["studies"] for one in found),
        "claims": {claim: claims[claim] for claim in order},
        "without_scenario": [c.id for c in REGISTER if c.id not in claims],
    }


def _document(file: Path) -> dict:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(
            f"{file} cannot be read ({error}); give a file that `phaselens validate --out` wrote."
        ) from error
    if not isinstance(found, dict) or not {"seed", "studies", "quick", "goal", "claims"} <= set(found):
        raise InputError(f"{file} is not what `phaselens validate --out` writes; give such a file.")
    return found


def write(file: Path, document: dict) -> None:
    """Write a document, whole or not at all."""
    text = json.dumps(plain(document), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    atomic_write(file, text.encode("utf-8"))
