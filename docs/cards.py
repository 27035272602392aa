"""Pages that are made from the code: one card an observable, and the ledger. Also the hook of the site's build.

`python docs/cards.py` writes docs/cards/ and docs/ledger.md; neither is kept in the repository.
"""

from collections import defaultdict
from pathlib import Path

DOCS = Path(__file__).parent
# Pages beside these enter the navigation by themselves, under Reference, with their first heading as title.
PLACES = {"monitor.md": "How to"}


def write(folder: Path = DOCS) -> list[Path]:
    """Write the generated pages; the same code gives the same bytes."""
    pages = {**_cards(), "ledger.md": _ledger()}
    for name, text in pages.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:  # a page that is the same is not touched
            path.write_text(text, encoding="utf-8")
    return [folder / name for name in pages]


def _cards() -> dict[str, str]:
    from phaselens.observables import CLOUD, OBSERVABLES
    from phaselens.observables.cards import card

    groups = defaultdict(list)
    for one in OBSERVABLES + CLOUD:
        groups[one.fn.__module__.rpartition(".")[2]].append(one)
    index = [
        "# Cards",
        "",
        "One card an observable: formula, unit, what NaN means, what it keeps, source. Made from the docstrings and",
        "declarations of the code at every build.",
        "",
    ]
    pages = {}
    for group, own in sorted(groups.items()):
        pages[f"cards/{group}.md"] = "\n\n".join([f"# {group.capitalize()}", *(card(one) for one in own)]) + "\n"
        index += [f"## [{group.capitalize()}]({group}.md)", ""]
        index += [f"- [`{one.name}`]({group}.md#{one.name}): {_plain(one.summary)}" for one in own] + [""]
    return {"cards/index.md": "\n".join(index), **pages}


def _ledger() -> str:
    from phaselens.claims import REGISTER
    from phaselens.claims.explain import document_name, explain
    from phaselens.experiments import EXPERIMENTS

    judges = {claim: e.name for e in EXPERIMENTS for claim in e.claims}
    out = [
        "# The ledger",
        "",
        "Every claim that phaselens registers before the data, with its rule. `phaselens claims show ID DIR` gives the",
        "verdict of a study; [Declare a claim](claims.md) says how to add yours. Published figures never decide.",
        "",
        "| id | document | claim | experiment | published |",
        "|---|---|---|---|---|",
        *(
            f"| [{c.id}](#{c.id.lower()}) | {c.seed_doc:03d} | {_plain(c.statement)} | {judges.get(c.id, '')} | "
            f"{_plain(c.published)} |"
            for c in REGISTER
        ),
        "",
    ]
    for claim in REGISTER:
        out += [f"## {claim.id}", "", f"*{document_name(claim.seed_doc)}*", ""]
        for part in explain(claim, REGISTER):
            if part.heading not in ("Open otherwise", "Correction", "In other words"):
                out += [f"**{part.heading}.** " + "; ".join(_plain(line) for line in part.lines), ""]
    return "\n".join(out)


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    for sign in "\\*_[]|":
        text = text.replace(sign, f"\\{sign}")
    return text.replace("<", "&lt;").replace(">", "&gt;")


def on_pre_build(config) -> None:
    """Hook of mkdocs: write the generated pages before files are collected."""
    write(Path(config["docs_dir"]))


def on_config(config):
    """Hook of mkdocs: pages that the navigation does not name enter it."""
    docs = Path(config["docs_dir"])
    named = set(_named(config["nav"]))
    for page in sorted(p.name for p in docs.glob("*.md") if p.name not in named):
        section = PLACES.get(page, "Reference")
        own = next(part[section] for part in config["nav"] if section in part)
        title = next(line for line in (docs / page).read_text(encoding="utf-8").splitlines() if line.startswith("# "))
        own.append({title.removeprefix("# "): page})
    return config


def _named(nav) -> list[str]:
    """The pages that a navigation names."""
    if isinstance(nav, str):
        return [nav]
    parts = nav.values() if isinstance(nav, dict) else nav
    return [page for part in parts for page in _named(part)]


if __name__ == "__main__":
    for written in write():
        print(written)
