"""A cloze battery out of stories of your own: the text up to a word that the story has said before, and that word.

`python examples/cloze_battery.py stories.json cloze.jsonl [COUNT]` reads a JSON list of texts, or a folder of .txt
files, and writes one question a text (the text is the unit of resampling), in a drawn order, since files are seldom
sorted by chance; COUNT of them or all. Then, in a study: `battery = "cloze.jsonl"`.
"""

import json
import re
import sys
from pathlib import Path

import numpy as np

LONGEST, EARLIEST, SAID_BEFORE, CALIBRATION = 800, 200, 2, 0.15
PLAIN = set(
    "the and was were that this with they them their there then had has have his her hers him she you your for not but "
    "all are one two very what when who how why did does said from into out its just like some could would will can "
    "because about after before again more over too it's don't let's day went got get see saw came come want wanted "
    "make made been being than where which while every each other also still even only back down off".split()
)


def cloze(text: str, rng: np.random.Generator) -> tuple[str, str] | None:
    """The text up to a content word that stands `SAID_BEFORE` times before it, and that word; None without one.

    Which of them is drawn, so that it is not the easiest; at most `LONGEST` characters are read.
    """
    words = [m for m in re.finditer(r"[^\W\d_]+(?:'[a-z]+)?", text[:LONGEST]) if m.end() < LONGEST]
    found = []
    for i, m in enumerate(words):
        earlier = sum(other[0] == m[0] for other in words[:i])
        follows_space = text[m.start() - 1 : m.start()] == " "
        is_content = len(m[0]) > 2 and m[0].lower() not in PLAIN
        if m.start() >= EARLIEST and earlier >= SAID_BEFORE and follows_space and is_content:
            found.append(m)
    if not found:
        return None
    chosen = found[rng.integers(len(found))]
    return text[: chosen.start()].rstrip(" "), chosen[0]


def battery(texts: list[str], seed: int = 0) -> list[dict]:
    """Questions as lines of a battery; a drawn share of them is set apart for calibration."""
    rng = np.random.default_rng(seed)
    rows = []
    for number, text in enumerate(dict.fromkeys(texts)):
        made = cloze(text, rng)
        apart = bool(rng.random() < CALIBRATION)
        if made is not None:
            tag = "name" if made[1][0].isupper() else "word"
            row = {"id": f"story-{number:04d}", "text": made[0], "category": "cloze", "answer": made[1], "tag": tag}
            rows.append({**row, "calibration": apart})
    return [rows[i] for i in rng.permutation(len(rows))]


def main() -> None:
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    texts = [p.read_text() for p in sorted(source.glob("*.txt"))] if source.is_dir() else json.loads(source.read_text())
    most = int(sys.argv[3]) if len(sys.argv) > 3 else len(texts)
    rows = battery(texts)[:most]
    out.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    print(f"{len(rows)} questions of {len(texts)} texts, {sum(r['calibration'] for r in rows)} for calibration: {out}")


if __name__ == "__main__":
    main()
