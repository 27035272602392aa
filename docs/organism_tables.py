"""`python docs/organism_tables.py` prints the panel's figures as Markdown tables, for `docs/organisms.md`."""

from collections.abc import Sequence

from phaselens.organisms.catalog import MODES, list_models
from phaselens.organisms.corpora import CATEGORIES
from phaselens.organisms.world import CLASS_WEIGHTS

CLASSES = tuple(str(c) for c in range(len(CLASS_WEIGHTS)))
LAWS = ("1 step", "2 steps", "3 steps", "2 steps, held out", "3 steps, held out")


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _percent(share: float) -> str:
    return f"{100 * share:.0f}"


def _name(record: dict) -> str:
    return f"`{record['name']}`"


def _panel(records: list[dict], *, misses: bool = True) -> str:
    head = ("", "family", "corpus", "V", "parameters", "steps", "tokens", "loss", "entropy", "excess", "misses")
    head = head if misses else head[:-1]
    rows = [
        (
            _name(r),
            r["family"],
            r["corpus"],
            r["vocabulary"],
            f"{r['parameters']:,}",
            f"{r['step']:,}",
            f"{r['tokens'] / 1e6:.2f} M",
            f"{r['loss']:.3f}",
            f"{r['true_entropy']:.3f}",
            f"{r['excess_nats']['overall']:.3f}",
            *(["; ".join(r["misses"]) or "none"] if misses else []),
        )
        for r in records
    ]
    return _table(head, rows)


def _excess(records: list[dict]) -> str:
    return _table(
        ("", *CATEGORIES, "end of text"),
        [(_name(r), *(f"{r['excess_nats'][c]:.3f}" for c in (*CATEGORIES, "end"))) for r in records],
    )


def _facts(records: list[dict]) -> str:
    rows = []
    for r in records:
        cells = [
            f"{_percent(f['accuracy'])} / {_percent(f['statement'])} / {_percent(f['paraphrase'])} "
            f"/ {_percent(f['choice'])} ({f['exposures_mean']:.0f})"
            for f in (r["facts"][c] for c in CLASSES)
        ]
        rows.append((_name(r), *cells))
    return _table(("", *(f"class {c}" for c in CLASSES)), rows)


def _knows(records: list[dict]) -> str:
    head = ("", "sums, written", "sums, held out", *(f"laws, {tag}" for tag in LAWS), "agreement", "worst agreement")
    rows = [
        (
            _name(r),
            _percent(r["sums"]["seen"]),
            _percent(r["sums"]["held_out"]),
            *(_percent(r["laws"][tag]) for tag in LAWS),
            _percent(sum(r["agreement"].values()) / len(r["agreement"])),
            _percent(min(r["agreement"].values())),
        )
        for r in records
    ]
    return _table(head, rows)


def _writes(records: list[dict]) -> str:
    modes = (*MODES, "generator")
    rows = [
        (
            _name(r),
            *(f"{_percent(r['repeat_rate'][m])} / {_percent(r['repeat_rate_masked'][m])}" for m in modes),
            _percent(r["reaching_66"]["T=0.7"]),
            _percent(r["ending"]),
        )
        for r in records
    ]
    return _table(("", *modes, "reach 66 tokens, T=0.7", "end by themselves, T=1"), rows)


def markdown() -> str:
    """All tables of the panel with their captions, as `docs/organisms.md` shows them."""
    final = list_models(checkpoints=False)
    checkpoints = [r for r in list_models() if r["checkpoint"]]
    parts = (
        (
            "Losses and entropies in nats per token on 300 fresh documents of the curated corpus, complete pieces.",
            _panel(final),
        ),
        ("Excess over the true entropy by category, nats per token.", _excess(final)),
        (
            "Facts answered rightly, in %: question / trained wording / held-out wording / forced choice, and the mean "
            "number of visible exposures. Chance is about 8 % (50 % for a choice between the two).",
            _facts(final),
        ),
        ("Sums (400 pairs each), laws by steps of derivation, and agreement of the verb in %.", _knows(final)),
        (
            "Share of runs of 72 tokens that collapse into repetition in %, as they are / with digits masked, beside "
            "the generator's own documents; runs that reach 66 tokens; long runs that end by themselves.",
            _writes(final),
        ),
        ("Training checkpoints, at matched numbers of tokens.", _panel(checkpoints, misses=False)),
    )
    return "\n\n".join(f"{caption}\n\n{table}" for caption, table in parts)


if __name__ == "__main__":
    print(markdown())
