"""Before the first word of an answer: what do the states know of its being wrong, layer by layer, beside the output?

`python tools/before_answer.py STUDY --models-from DIR [--out FILE]` reads a graded study (experiment `correctness`) and
runs each model twice more over its runs. Probes as in `correctness` (64 principal components, logistic, every run
scored by a fit that saw nothing of its unit) read the state of the last prompt token, from which the first token of the
answer is chosen, at five depths; and the mean over the first 8 steps, where at layer 0 it is a bag of the embeddings of
the answer's words: what such a probe knows of the text alone. Beside them the same logistic regression on what the
output says at the first step, and on it and the states together. AUROC over pairs of runs of one category; once more
over attempts alone, runs whose text is an accepted answer to some question of the category: to tell an answer from no
answer ("The past tense of go is used to ...") is not to know that it is wrong. `--untrained` reads the same texts by an
untrained twin too: what is as good there is the text, mixed at random, and nothing that was learned.
"""

import argparse
import json
import tomllib
from pathlib import Path

import numpy as np

import phaselens
from phaselens.batteries.graders import Grader
from phaselens.dynamics.correctness_scores import EARLY, answer_probe
from phaselens.experiments.ambiguity import turbulent_above
from phaselens.experiments.graded_runs import Graded, graded_runs
from phaselens.models import untrained_twin
from phaselens.readings.examples import Places
from phaselens.readings.place_states import capture_states
from phaselens.statistics.detection import resampled_auroc_within
from phaselens.statistics.logistic_regression import held_out_probability
from phaselens.statistics.resampling import bootstrap_weights
from phaselens.studies.panel_columns import panel_of
from phaselens.studies.store.panel_record import read_record
from phaselens.trace.transcripts import Transcript, read_jsonl

DEPTHS, BOOT, TWIN_SEED, UNTRAINED = (0.0, 0.25, 0.5, 0.75, 1.0), 2000, 7, "untrained, "
FIRST = ("surprisal", "entropy", "margin", "top1", "rivalry", "n_above_1pct", "logit_std")


def said_by(folder: Path, g: Graded) -> list[Transcript]:
    """The transcripts of the graded runs."""
    units = [u for u in read_record(folder).units if u.model == g.model.info.name]
    said = [t for u in units for t in read_jsonl(folder / u.transcripts)]
    return [said[i] for i in g.rows]


def attempts(said: list[Transcript], grader: Grader) -> np.ndarray:
    """Whether the text of each run is an accepted answer to any question of its category."""
    known: dict[str, set[str]] = {}
    for t in said:
        known.setdefault(t.category, set()).update(a for a in (t.answer, *t.aliases) if a)
    return np.array([grader(t.completion or "", sorted(known[t.category])).right for t in said])


def states_of(folder: Path, g: Graded, model: phaselens.Model) -> dict[str, np.ndarray]:
    """States of every graded run by name: at the first step, and the mean over the first eight, at five depths."""
    chosen = said_by(folder, g)
    layers = tuple(sorted({round(d * model.n_layers) for d in DEPTHS}))
    ids, lo = tuple(tuple(t.fed) for t in chosen), np.array([t.n_prompt - 1 for t in chosen])
    ends = np.minimum(lo + EARLY, [len(one) for one in ids])
    out = {}
    for word, hi, pool in (("first step", lo + 1, "last"), ("first 8 steps", ends, "mean")):
        found = capture_states(model, Places(ids, lo, hi), pool=pool, layers=layers)
        out |= {f"{word}, layer {n}": np.asarray(x) for n, x in zip(found.numbers, found.layers, strict=True)}
    return out


def rows_of(folder: Path, g: Graded, model: phaselens.Model, twin: phaselens.Model | None) -> list[dict]:
    """AUROC of every probe and of the output within categories, with its interval and the gain over the output.

    With a twin every probe of states has its gain over the same probe of the twin's states too.
    """
    units = g.model.units[g.rows]
    output = np.column_stack([g.model.per_step(n)[g.rows, 0] for n in FIRST if n in g.model.steps])
    output = (output - output.mean(0)) / np.where(output.std(0) > 0, output.std(0), 1)

    def fitted(x: np.ndarray) -> np.ndarray:
        return held_out_probability(x, g.wrong, units, np.random.default_rng(0), constant=False)

    scores = {"output at the first step": fitted(output)}
    for name, x in states_of(folder, g, model).items():
        scores[name] = answer_probe(x, g.wrong, units, np.random.default_rng(0))
        if name.startswith("first step"):
            scores[f"{name}, and output"] = fitted(np.column_stack([output, _ranked(scores[name])]))
    for name, x in states_of(folder, g, twin).items() if twin else ():
        scores[UNTRAINED + name] = answer_probe(x, g.wrong, units, np.random.default_rng(0))
    scores |= {n: g.baselines[n] for n in ("text: prompt and answer", "linear probe") if n in g.baselines}
    kind, out = np.asarray(g.model.runs["category"])[g.rows].astype(str), []
    declared = tomllib.loads((folder / "study.toml").read_text(encoding="utf-8")).get("grader")
    tried = g.measured & attempts(said_by(folder, g), Grader.of(declared))
    for among, here in (("all", g.measured), ("attempts", tried)):
        _, unit = np.unique(units[here], return_inverse=True)
        drawn = bootstrap_weights(unit.max() + 1, np.random.default_rng(34), n_boot=BOOT)
        weights = np.vstack([np.ones((1, unit.max() + 1), int), drawn])[:, unit]
        draws = {n: resampled_auroc_within(v[here], g.wrong[here], kind[here], weights) for n, v in scores.items()}
        base = draws["output at the first step"]
        common = {
            "model": g.model.info.name,
            "among": among,
            "runs": int(here.sum()),
            "wrong": int(g.wrong[here].sum()),
        }
        for name, d in draws.items():
            over = {"auroc": d, "gain": d - base}
            if UNTRAINED + name in draws:
                over["beyond untrained"] = d - draws[UNTRAINED + name]
            row = {**common, "score": name} | {word: float(values[0]) for word, values in over.items()}
            for word, values in over.items():
                row[f"{word} interval"] = [float(x) for x in np.nanquantile(values[1:], [0.025, 0.975])]
            out.append(row)
    return out


def _ranked(values: np.ndarray) -> np.ndarray:
    """Held-out log odds as standard scores (1)."""
    return (values - values.mean()) / max(values.std(), 1e-12)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path)
    parser.add_argument("--models-from", type=Path, required=True)
    parser.add_argument("--only", help="one of the models, by its name in the study")
    parser.add_argument("--untrained", action="store_true", help="an untrained twin's states beside")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    panel = panel_of(given.study, read_record(given.study), seed=0, n_boot=100)
    rows = []
    for data in panel.trained:
        if given.only not in (None, data.info.name):
            continue
        g = graded_runs(panel, data, turbulent_above(panel))
        if g is not None:
            model = phaselens.load(given.models_from / data.info.name)
            twin = untrained_twin(model, TWIN_SEED) if given.untrained else None
            rows += rows_of(given.study, g, model, twin)
    if given.out:
        given.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    for r in rows:
        said = [k for k in ("auroc", "gain", "beyond untrained") if k in r]
        each = (f"{r[k]:.3f} [{r[k + ' interval'][0]:.3f}, {r[k + ' interval'][1]:.3f}]" for k in said)
        print(r["model"], f"{r['among']} ({r['wrong']} of {r['runs']} wrong)", r["score"], *each, sep=" | ")


if __name__ == "__main__":
    main()
