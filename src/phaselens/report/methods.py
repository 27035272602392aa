"""What was run, in sentences and lists: the head of the page, the methods, the notes, and what was refused."""

from collections import Counter
from collections.abc import Mapping

from phaselens.report.models_shown import Member
from phaselens.report.study_files import Folder, Row, records
from phaselens.report.verdict_prose import Entry
from phaselens.report.written_values import count, defined, is_number, listing, number, sentence, value, visible


def facts(folder: Folder, entries: list[Entry], members: list[Member]) -> list[tuple[str, str]]:
    """List the few figures that stand at the head of the page."""
    out = []
    if members:
        trained = sum(not m.twin for m in members)
        twins = len(members) - trained
        out.append(("models", f"{trained} trained" + (f" + {twins} untrained" if twins else "")))
    if entries:
        out.append(("claims", number(len(entries))))
    prompts, battery = folder.manifest.get("n_prompts"), _battery(folder)
    if is_number(prompts):
        out.append(("prompts", number(prompts)))
    if battery is not None:
        out.append(("battery", value(battery)))
    seed = _first(folder, "seed")
    if seed is not None:
        out.append(("seed", value(seed)))
    if lock := folder.manifest.get("claims_lock"):
        out.append(("claims lock", visible(str(lock))[:12] + "…"))
    return out


def _first(folder: Folder, key: str) -> object | None:
    for source in (folder.declaration, folder.declaration.get("study"), folder.manifest, folder.manifest.get("study")):
        if isinstance(source, Mapping) and source.get(key) is not None:
            return source[key]
    return None


def study_name(folder: Folder) -> str:
    """Give the declared name of the study, else the folder's."""
    return visible(str(_first(folder, "name") or folder.name), 120)


def methods(folder: Folder) -> list[str]:
    """Say what was run: a sentence each for prompts, sampling, recording and statistics, as far as declared."""
    said = [_prompts(folder), _sampling(folder), _recording(folder), _resampling(folder), _multiplicity(folder)]
    return [one for one in said if one]


def _prompts(folder: Folder) -> str:
    amount, battery = folder.manifest.get("n_prompts"), _battery(folder)
    if not is_number(amount) and battery is None:
        return ""
    prompts = f"{number(amount)} prompts" if is_number(amount) else "The prompts"
    where = f" of the battery {visible(str(battery))}" if battery is not None else ""
    kinds = folder.manifest.get("categories")
    kinds = [kind for kind in kinds if defined(kind)] if isinstance(kinds, list) else []
    kinds = f" in {count(len(kinds), 'category', 'categories')} ({value(kinds)})" if kinds else ""
    apart = folder.manifest.get("n_calibration_prompts")
    apart = (
        f"; {count(apart, 'further prompt')} served for calibration only" if isinstance(apart, int) and apart else ""
    )
    return f"{prompts}{where}{kinds} were given to every model{apart}."


def _battery(folder: Folder) -> object | None:
    """Give the battery's name: as recorded, else as declared."""
    return folder.manifest.get("battery") or _first(folder, "battery")


def _sampling(folder: Folder) -> str:
    tokens, arms = _first(folder, "max_new_tokens"), folder.declaration.get("arms")
    ways = listing(_arm(arm) for arm in records(arms))
    up_to = f"up to {number(tokens)} tokens" if is_number(tokens) else ""
    if not (up_to or ways):
        return ""
    held = ", with end-of-text suppressed" if _first(folder, "suppress_eos") is True else ""
    return f"Each model generated {up_to or 'text'}{held}{': ' + ways if ways else ''}.{_chat(folder)}"


def _chat(folder: Folder) -> str:
    """Say how prompts were put where they were put as conversations."""
    if _first(folder, "chat") is not True:
        return ""
    system = _first(folder, "system")
    before = "" if system is None else f", behind the system turn \u201c{visible(str(system), 400)}\u201d"
    ends = "" if _first(folder, "suppress_eos") is True else "; a run ends with the model's turn"
    return f" Every prompt was the user's turn of a conversation{before}, by each tokenizer's own chat template{ends}."


def _arm(arm: Row) -> str:
    heat, samples = arm.get("temperature"), arm.get("samples", 1)
    if heat == 0:
        return "once greedily"
    cuts = [f"top-p {number(arm['top_p'])}"] if is_number(arm.get("top_p")) and arm["top_p"] < 1 else []
    cuts += [f"top-k {number(arm['top_k'])}"] if is_number(arm.get("top_k")) and arm["top_k"] > 0 else []
    times = f"{number(samples)} times per prompt" if is_number(samples) and samples > 1 else "once per prompt"
    return f"{times} at temperature {number(heat)}{''.join(', ' + cut for cut in cuts)}"


def _recording(folder: Folder) -> str:
    lenses, dtype = _first(folder, "lenses"), _first(folder, "dtype")
    parts = [f"under the lenses {listing(value(x) for x in lenses)}"] if isinstance(lenses, list) and lenses else []
    parts += [f"in {visible(str(dtype))}"] if dtype is not None else []
    device, batch, threads = (_first(folder, key) for key in ("device", "batch_size", "threads"))
    parts += [f"on {visible(str(device))}"] if device is not None else []
    parts += [f"in batches of at most {number(batch)}"] if is_number(batch) else []
    parts += [f"with {count(int(threads), 'thread')}"] if is_number(threads) else []
    return f"States were recorded {', '.join(parts)}." if parts else ""


def _resampling(folder: Folder) -> str:
    times, seed = _first(folder, "bootstraps"), _first(folder, "seed")
    drawn = f"Intervals rest on {number(times)} prompt bootstraps" if is_number(times) else ""
    seeded = f"every draw follows from the seed {number(seed)}" if is_number(seed) else ""
    return sentence("; ".join(part for part in (drawn, seeded) if part))


def _multiplicity(folder: Folder) -> str:
    """Say what Holm's correction is over, and which claims are tested after another instead."""
    families = {c.get("seed_doc") for c in folder.claims if str(c.get("family", "")).startswith("Holm")}
    after: dict[str, list[str]] = {}
    for claim in folder.claims:
        if claim.get("after"):
            after.setdefault(visible(str(claim["after"])), []).append(visible(str(claim["id"])))
    parts = [
        f"p-values are corrected by Holm over the claims of one document ({count(len(families), 'family', 'families')})"
    ]
    said = parts if families else []
    said += [f"tested after {before}, and in no correction: {listing(ids)}" for before, ids in after.items()]
    return sentence("; ".join(said))


def flat(content: Row, skip: frozenset[str] = frozenset()) -> list[tuple[str, str]]:
    """List a nested mapping as (path, value) lines; a long list of records is only counted."""
    lines = []
    for key, item in content.items():
        if key in skip:
            continue
        name = visible(str(key)).replace("_", " ")
        if isinstance(item, Mapping):
            lines += [(f"{name}: {inner}", written) for inner, written in flat(item)]
        elif isinstance(item, list) and len(item) > 4 and all(isinstance(i, (dict, list)) for i in item):
            lines.append((name, count(len(item), "record")))
        elif isinstance(item, list) and item and all(isinstance(i, Mapping) for i in item):
            lines.append((name, "; ".join(value(i) for i in item)))
        else:
            lines.append((name, "none named" if item == [] else value(item)))
    return lines


def fingerprints(manifest: Row) -> list[tuple[str, str]]:
    """List (model, fingerprint) of the manifest."""
    return [(value(m.get("name")), value(m.get("fingerprint"))) for m in records(manifest.get("models"))]


def references(folder: Folder) -> list[tuple[str, str]]:
    """List (source, what of this study rests on it), as the docstrings of the functions used name them."""
    return [(value(row.get("source")), value(row.get("of"))) for row in records(folder.results.get("references"))]


def refusals(manifest: Row) -> list[str]:
    """Say which models were refused, and why."""
    return [f"{value(r.get('model'))} was refused: {value(r.get('reason'))}" for r in records(manifest.get("refused"))]


def notes(folder: Folder) -> list[str]:
    """List the notes of the experiments, and how many runs have no ratio_norm for which reason."""
    out = [value(note) for note in folder.results.get("notes", [])]
    rows = folder.rows("regimes_runs")
    of_all = Counter(str(r["model"]) for r in rows)
    reasons: dict[tuple[str, str], list[str]] = {}
    for r in (r for r in rows if defined(r["reason"])):  # "short: 11 of 64 values"
        kind, _, detail = str(r["reason"]).partition(": ")
        reasons.setdefault((str(r["model"]), kind), []).append(detail)
    for (model, kind), details in sorted(reasons.items()):
        ends = sorted({d for d in details if d}, key=lambda d: int(d.partition(" ")[0]) if d[0].isdigit() else 0)
        said = f"{kind}: {ends[0].partition(' ')[0]} to {ends[-1]}" if len(ends) > 1 else ": ".join([kind, *ends])
        out.append(
            f"{visible(model)}: {number(len(details))} of {number(of_all[model])} runs have no ratio_norm "
            f"({visible(said)})"
        )
    return out
