"""Pages that are made from the code: cards, the ledger, verdicts, errors. Also the hook of the site's build.

`python docs/cards.py` writes docs/cards/, docs/ledger.md, docs/verdicts.md and docs/errors.md; none is kept in the
repository. `python docs/cards.py DIR` first stores the verdicts of the study in DIR (that of `phaselens run organisms
--out DIR`) as docs/verdicts.json, which is; `python docs/cards.py --real DIR...` those of studies of real models as
docs/verdicts-real.json (page: docs/verdicts-real.md).
"""

import hashlib
import json
import sys
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

from observable_cards import card

DOCS = Path(__file__).parent
VERDICTS = DOCS / "verdicts.json"
REAL = DOCS / "verdicts-real.json"
# Pages beside these enter the navigation by themselves, under Reference, with their first heading as title.
PLACES = {"monitor.md": "How to", "view.md": "How to", "watch.md": "How to"}


# What a page of all claims would say again and again.
HIDDEN = ("Open otherwise", "In other words")


def write(folder: Path = DOCS) -> list[Path]:
    """Write the generated pages; the same code gives the same bytes."""
    pages = {**_cards(), "ledger.md": _ledger(), "verdicts.md": _verdicts(json.loads(VERDICTS.read_text()))}
    pages["errors.md"], pages["results.md"] = _errors(), _results()
    if REAL.is_file():
        pages["verdicts-real.md"] = _real_verdicts(json.loads(REAL.read_text(encoding="utf-8")))
    for name, text in pages.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:  # a page that is the same is not touched
            path.write_text(text, encoding="utf-8")
    return [folder / name for name in pages]


def _cards() -> dict[str, str]:
    from phaselens.observables import CLOUD, MAPS, OBSERVABLES

    groups = defaultdict(list)
    for one in OBSERVABLES + CLOUD + MAPS:
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
            if part.heading not in HIDDEN and (claim.after or part.heading != "Correction"):
                out += [f"**{part.heading}.** " + "; ".join(_plain(line) for line in part.lines), ""]
    return "\n".join(out)


def store(folder: Path) -> Path:
    """Keep the verdicts of the study of the default panel."""
    return _kept(VERDICTS, verdicts_of(folder))


def store_real(folders: list[Path]) -> Path:
    """Keep the verdicts of studies of real models; those of other studies that are kept already stay."""
    kept = json.loads(REAL.read_text(encoding="utf-8")) if REAL.is_file() else {}
    return _kept(REAL, kept | {found["name"]: found for found in map(verdicts_of, folders)})


def _kept(path: Path, kept: dict) -> Path:
    path.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def verdicts_of(folder: Path) -> dict:
    """The verdicts of a study: registered as what and when, judged by which rules, and which weights they are about.

    Rules are those of the run, or of the code that stores where it was judged again (`phaselens run --from DIR`).
    """
    from phaselens.claims import REGISTER, lock

    manifest = (folder / "manifest.json").read_bytes()
    said = json.loads(manifest)
    diary = (folder / "log.jsonl").read_text(encoding="utf-8")
    again = {claim.id: lock((claim,)) for claim in REGISTER} if '"analysed again"' in diary else {}
    began = json.loads(diary.partition("\n")[0])["time"]
    return {
        "command": f"phaselens run {said['name']} --out DIR",
        "manifest_sha256": hashlib.sha256(manifest).hexdigest(),
        "began": datetime.fromtimestamp(began, UTC).strftime("%Y-%m-%d %H:%M UTC"),
        **{key: said[key] for key in ("name", "seed", "claims_lock", "registered", "n_prompts", "versions")},
        "weights": {m["name"]: weights_of(m["name"]) for m in said["models"] if not m.get("twin")},
        "models": {m["name"]: [m["fingerprint"], m["origin"] or ""] for m in said["models"] if not m.get("twin")},
        "judged": {row["id"]: again.get(row["id"], row["lock"]) for row in said["registered"]},
        "claims": json.loads((folder / "claims.json").read_text(encoding="utf-8")),
    }


def weights_of(name: str) -> str:
    """SHA-256 of the bundled weights of an organism; "" where it is bundled no more."""
    file = DOCS.parent / "src" / "phaselens" / "organisms" / "weights" / name / "model.safetensors"
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""


def stale(kept: dict) -> dict[str, str]:
    """What moved since verdicts were stored, by claim or model: such a row says nothing about the code of today."""
    from phaselens.claims import REGISTER, lock

    now = {claim.id: lock((claim,)) for claim in REGISTER}
    judged = kept.get("judged") or {row["id"]: row["lock"] for row in kept["registered"]}
    there = [row["id"] for row in kept["registered"]]
    moved = {name: "its declaration was changed since" for name in there if now.get(name) != judged.get(name)}
    return moved | {
        name: "its weights were changed since" for name, sha in kept["weights"].items() if weights_of(name) != sha
    }


def _verdicts(kept: dict) -> str:
    from phaselens.claims import REGISTER
    from phaselens.experiments import EXPERIMENTS

    models = ", ".join(sorted(kept["weights"]))
    versions = ", ".join(f"{name} {version}" for name, version in kept["versions"].items())
    out = [
        "# Verdicts of the default panel",
        "",
        f"What `{kept['command']}` says on {len(kept['weights'])} bundled models ({models}), each beside an untrained",
        f"twin, on {kept['n_prompts']} prompts with seed {kept['seed']} ({versions}).",
        "The rules stand in [the ledger](ledger.md). A panel of small models on a made world says nothing about",
        "others: run your own.",
        "",
        f"Stored by `python docs/cards.py DIR`. SHA-256 of the manifest: `{kept['manifest_sha256'][:16]}`; lock of its",
        f"claims: `{kept['claims_lock'][:16]}`. A row whose rule or weights were changed since is marked stale.",
        "",
    ]
    out += _judged(kept)
    judges = {claim: e.name for e in EXPERIMENTS for claim in e.claims}
    there = {claim["id"] for claim in kept["claims"]}
    out += [
        "## Registered, and not judged by this study",
        "",
        "| id | claim | judged by the experiment |",
        "|---|---|---|",
    ]
    out += [
        f"| [{c.id}](ledger.md#{c.id.lower()}) | {_plain(c.statement)} | {judges.get(c.id, '`phaselens perturb`')} |"
        for c in REGISTER
        if c.id not in there
    ]
    return "\n".join(out) + "\n"


def _real_verdicts(studies: dict) -> str:
    """One page of all stored studies of real models."""
    out = [
        "# Verdicts on real language models",
        "",
        "What studies of SmolLM2-135M-Instruct and Gemma-3-270M say, weights dequantised from four bits; what to make",
        "of it is told in [What real models say](real.md). Stored by `python docs/cards.py --real DIR...`; a row whose",
        "rule was changed since is marked stale. One or two models decide no claim about panels.",
        "",
    ]
    for name, kept in studies.items():
        known = kept["models"].items()
        weights = "; ".join(f"{m} ({origin or 'as published'}, {mark[:12]})" for m, (mark, origin) in known)
        out += [
            f"## Study {_plain(name)} {{ #study-{name} }}",
            "",
            f"{kept['n_prompts']} prompts, seed {kept['seed']}; begun {kept['began']}; {_plain(weights)}.",
            f"SHA-256 of the manifest: `{kept['manifest_sha256'][:16]}`; lock of claims: `{kept['claims_lock'][:16]}`.",
            "",
            *_judged(kept, f"{name}-"),
        ]
    return "\n".join(out) + "\n"


def _judged(kept: dict, prefix: str = "") -> list[str]:
    """The table of verdicts of a study, and each with its controls; what moved since is marked."""
    from phaselens.report import verdict_prose
    from phaselens.report.written_values import DASH, sentence

    out, entries, moved = [], verdict_prose.ledger(kept["claims"]), stale(kept)
    level = "###" if prefix else "##"
    if moved:
        out += ['!!! warning "Stale rows"', *(f"    {name}: {why}." for name, why in moved.items()), ""]
    out += ["| claim | verdict | estimate | null | p | decided by | published |", "|---|---|---|---|---|---|---|"]
    for e in entries:
        estimate = e.estimate if e.interval == DASH else f"{e.estimate} {e.interval}"
        cells = (estimate, e.null, "; ".join((e.p, *e.more)), e.decided_by, e.published)
        mark = " (stale)" if e.id in moved else ""
        out.append(f"| [{e.id}](#{prefix}{e.anchor}){mark} | {e.verdict} | " + " | ".join(map(_plain, cells)) + " |")
    out.append("")
    for e in entries:
        out += [
            f"{level} {_plain(e.id)}: {e.verdict} {{ #{prefix}{e.anchor} }}",
            "",
            f"{_plain(e.statement)} {_plain(sentence(e.why))}",
            "",
        ]
        out += [f"* {_plain(name)}: **{word}**; {_plain(why)}" for name, word, why in e.controls]
        out += [
            "",
            f"What would change this verdict: {_plain(verdict_prose.change(e))}",
            "",
            f"Correction: {_plain(e.family)}.",
            "",
        ]
    return out


def _results() -> str:
    from phaselens.experiments import EXPERIMENTS

    out = [
        "# Tables of results/",
        "",
        "Every table that a study writes to `results/`, with the experiment that makes it; every column with its unit",
        "and meaning. Made from the declarations of the code at every build.",
        "",
    ]
    for experiment in EXPERIMENTS:
        for table in experiment.tables:
            out += [f"## {table.name}", "", f"{table.about[0].upper()}{table.about[1:]} (`{experiment.name}`).", ""]
            out += ["| column | type | unit | meaning |", "|---|---|---|---|"]
            out += [f"| `{f.name}` | {f.kind} | {_plain(f.unit)} | {_plain(f.meaning)} |" for f in table.fields]
            out.append("")
    return "\n".join(out)


def _errors() -> str:
    from phaselens import errors

    out = [
        "# Errors",
        "",
        "Every error says what was got, what was wanted, where, and what to do next. In the terminal it names its",
        "kind, and `phaselens explain KIND` prints what stands here. From Python every kind can be caught by its name,",
        "by `PhaselensError`, or by the built-in error that it also is. Exit codes: 2 for what you can change, 1 for",
        "what should not happen, 3 for a manifest that was tampered with, 130 after Ctrl-C.",
        "",
    ]
    for kind in errors.KINDS:
        built_in = next(b.__name__ for b in kind.__mro__ if b.__module__ == "builtins")
        out += [
            f"## {kind.__name__} {{ #{kind.__name__.lower()} }}",
            "",
            f"*also a {built_in}*",
            "",
            errors.explanation(kind),
            "",
        ]
    return "\n".join(out)


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for sign in "\\*_[]|`":
        text = text.replace(sign, f"&#{ord(sign)};")
    return text


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
    folders = [Path(given) for given in sys.argv[1:] if given != "--real"]
    if "--real" in sys.argv:
        print(store_real(folders))
    else:
        print(*map(store, folders))
    for written in write():
        print(written)
