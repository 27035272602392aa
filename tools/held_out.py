"""Held-out kinds of question: what is learned from some relations, tried on relations that it never saw.

`python tools/held_out.py STUDY [--after 3] [--folds 5] [--out rows.json]` reads a graded study (experiment
`correctness`). The categories are parted into folds; for each, everything is learned on the other categories: which
score of the states, or of the output, goes with wrong answers and on which side; a linear probe of the states that
answers begin with; logistic regressions of text, of the output's numbers, and of these and the states together; and a
monitor's rule (`calibrate`) at a false-alarm rate of .1. AUROC is over pairs of runs of one category, both held out,
with 95 % intervals over units; `gain` is over the output's numbers.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import HashingVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from phaselens.dynamics.alarms import Score, first_alarm, running
from phaselens.dynamics.thresholds import learn_rule
from phaselens.errors import InputError
from phaselens.experiments.ambiguity import turbulent_above
from phaselens.experiments.graded_runs import Graded, graded_runs
from phaselens.monitor.learned_card import BASELINES, INNER, STATISTICS
from phaselens.statistics.detection import resampled_auroc_within
from phaselens.statistics.resampling import bootstrap_weights
from phaselens.studies.panel_columns import panel_of
from phaselens.studies.store.panel_record import read_record

PLAIN = ("early log-probability", "early entropy", "mean log-probability", "mean entropy", "length")
FIRST = ("surprisal", "entropy", "margin", "top1")
COMPONENTS, FEWEST, BOOT = 64, 10, 2000
WORDS = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\S+", sublinear_tf=True)
CHARACTERS = HashingVectorizer(analyzer="char_wb", ngram_range=(2, 4), n_features=2**14)


def folds_of(kind: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """The fold of every run: whole categories, parted by chance."""
    names = np.unique(kind)
    return (np.random.default_rng([seed, 31]).permutation(len(names)) % folds)[np.searchsorted(names, kind)]


def best_of(scores: dict[str, np.ndarray], wrong: np.ndarray, kind: np.ndarray, train: np.ndarray) -> tuple[str, int]:
    """The score, and its side, that goes most with wrong answers within the categories learned from."""
    one = np.ones((1, int(train.sum())))
    found = {n: resampled_auroc_within(v[train], wrong[train], kind[train], one)[0] for n, v in scores.items()}
    name = max((n for n, v in found.items() if np.isfinite(v)), key=lambda n: abs(found[n] - 0.5))
    return name, 1 if found[name] >= 0.5 else -1


def fitted(x: np.ndarray, wrong: np.ndarray, train: np.ndarray, c: float = 1.0) -> np.ndarray:
    """Log odds of a wrong answer of every run, by a logistic regression on those learned from; NaN columns are 0."""
    x = np.asarray(x, float).copy()
    centre, spread = np.nanmean(x[train], axis=0), np.nanstd(x[train], axis=0)
    x = np.nan_to_num((x - centre) / np.where(spread > 0, spread, 1))
    return LogisticRegression(C=c, max_iter=2000).fit(x[train], wrong[train]).decision_function(x)


def components(states: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Leading principal components of the states learned from, at most a tenth of the runs: [run, component]."""
    centred = states - states[train].mean(0)
    _, _, directions = np.linalg.svd(centred[train], full_matrices=False)
    return centred @ directions[: min(COMPONENTS, int(train.sum()) // 10)].T


def of_text(texts: list[str], wrong: np.ndarray, train: np.ndarray, reader: object) -> np.ndarray:
    """Log odds of a wrong answer by the words of texts alone."""
    rows = np.flatnonzero(train)
    x = reader.fit_transform([texts[i] for i in rows])  # type: ignore[attr-defined]
    return LogisticRegression(C=1, solver="liblinear").fit(x, wrong[rows]).decision_function(reader.transform(texts))  # type: ignore[attr-defined]


def plain_columns(g: Graded) -> np.ndarray:
    """What the output itself says: log-probability, entropy and length, and the numbers of the first token."""
    columns = [g.baselines[n] for n in PLAIN if n in g.baselines]
    columns += [g.model.per_step(n)[g.rows, 0] for n in FIRST if n in g.model.steps]
    return np.column_stack(columns)


def scores_of(g: Graded, kind: np.ndarray, folds: int, seed: int = 0) -> tuple[dict[str, np.ndarray], list[str]]:
    """Held-out scores of every run by name, and which single score was chosen in each fold."""
    fold, runs = folds_of(kind, folds, seed), g.model.runs
    asked, said = (list(map(str, np.asarray(runs[n])[g.rows])) for n in ("prompt", "answered"))
    both = [f"{a} {b}" for a, b in zip(asked, said, strict=True)]
    states, plain = runs["answer_state"][g.rows], plain_columns(g)
    outputs = {n: g.baselines[n] for n in PLAIN if n in g.baselines}
    outputs |= {f"first {n}": g.model.per_step(n)[g.rows, 0] for n in FIRST if n in g.model.steps}
    out: dict[str, np.ndarray] = {}
    chosen = []
    for k in range(folds):
        train, test = fold != k, fold == k
        single, side = best_of(dict(g.scores), g.wrong, kind, train)
        other, turned = best_of(outputs, g.wrong, kind, train)
        chosen.append(f"{single} ({'high' if side > 0 else 'low'}); {other} ({'high' if turned > 0 else 'low'})")
        x = components(states, train)
        of = {
            "best single score of the states": side * g.scores[single],
            "best single score of the output": turned * outputs[other],
            "linear probe of the states": fitted(x, g.wrong, train, 0.01),
            "output: logistic regression": fitted(plain, g.wrong, train),
            "output and states": fitted(np.column_stack([plain, x]), g.wrong, train, 0.01),
            "text: words": of_text(both, g.wrong, train, WORDS),
            "text: characters": of_text(both, g.wrong, train, CHARACTERS),
        }
        for name, values in of.items():
            out.setdefault(name, np.full(len(g.wrong), np.nan))[test] = values[test]
    return out, chosen


def alarms(g: Graded, kind: np.ndarray, folds: int, after: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Whether each run alarms by a rule learned on other categories: of the states, and of the output [run]."""
    fold, data = folds_of(kind, folds, seed), g.model
    at = [(n, layer) for n in INNER for layer in dict.fromkeys((data.layer_of_record, data.info.n_layers))]
    found = {place: v[g.rows] for place in at if (v := data.at_layer(*place)) is not None}
    inner = {Score(*place, s): v for place, v in found.items() for s in STATISTICS}
    outer = {Score(n, None, s): data.per_step(n)[g.rows] for n in BASELINES if n in data.steps for s in STATISTICS}
    out = {"rule of the states": np.full(len(g.wrong), np.nan), "rule of the output": np.full(len(g.wrong), np.nan)}
    for k in range(folds):
        train, test = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        rng = np.random.default_rng([seed, 32, k])
        learned = learn_rule(
            {s: v[train] for s, v in inner.items()},
            {s: v[train] for s, v in outer.items()},
            g.wrong[train],
            data.units[g.rows][train],
            rng,
            n_boot=100,
            after=after,
        )
        for name, rule, columns in zip(out, (learned.rule, learned.baseline), (inner, outer), strict=True):
            followed = running(columns[rule.score][test], rule.score)
            out[name][test] = first_alarm(followed, rule.threshold, above=rule.above, after=after) >= 0
    return out


def interval(draws: np.ndarray) -> list[float]:
    return [float(x) for x in np.nanquantile(draws, [0.025, 0.975])]


def said(value: float, ends: list[float]) -> str:
    return f"{value:.3f} [{ends[0]:.3f}, {ends[1]:.3f}]"


def rows_of(g: Graded, folds: int, after: int) -> list[dict]:
    """Rows of one model: AUROC of every held-out score, and the alarms of the rules."""
    kind = np.asarray(g.model.runs["category"])[g.rows].astype(str)
    enough = [k for k in np.unique(kind) if min((g.wrong[kind == k] == w).sum() for w in (0, 1)) >= FEWEST]
    keep = np.isin(kind, enough)
    found, chosen = scores_of(g, kind, folds)
    here = g.measured & keep
    _, unit = np.unique(g.model.units[g.rows][here], return_inverse=True)
    drawn = bootstrap_weights(unit.max() + 1, np.random.default_rng(33), n_boot=BOOT)
    weights = np.vstack([np.ones((1, unit.max() + 1), int), drawn])[:, unit]
    wrong, name = g.wrong[here], g.model.info.name
    draws = {n: resampled_auroc_within(v[here], wrong, kind[here], weights) for n, v in found.items()}
    base = draws["output: logistic regression"]
    common = {"model": name, "runs": int(here.sum()), "wrong": int(wrong.sum()), "categories": len(enough)}
    out = [
        {
            **common,
            "score": n,
            "auroc": float(d[0]),
            "interval": interval(d[1:]),
            "gain": float(d[0] - base[0]),
            "gain_interval": interval(d[1:] - base[1:]),
        }
        for n, d in draws.items()
    ]
    for n, alarmed in alarms(g, kind, folds, after).items():
        row = {**common, "score": n, "after": after}
        for word, of in (("false alarms", wrong == 0), ("hits", wrong == 1)):
            w = weights[:, of]
            d = (w @ alarmed[here][of]) / w.sum(1)
            row |= {word: float(d[0]), f"{word} interval": interval(d[1:])}
        out.append(row)
    return [*out, {**common, "chosen": chosen}]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path)
    parser.add_argument("--after", type=int, default=3, help="no alarm before this step")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    record = read_record(given.study)
    panel = panel_of(given.study, record, seed=0, n_boot=100)
    rows = []
    for model in panel.trained:
        g = graded_runs(panel, model, turbulent_above(panel))
        if g is None:
            raise InputError(f"{model.info.name} has no right and wrong runs: the study must be graded.")
        rows += rows_of(g, given.folds, given.after)
    if given.out:
        given.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    for r in rows:
        if "auroc" in r:
            both = said(r["auroc"], r["interval"]), said(r["gain"], r["gain_interval"])
            print(r["model"], r["score"], *both, sep=" | ")
        elif "hits" in r:
            words = " | ".join(f"{w} {said(r[w], r[f'{w} interval'])}" for w in ("false alarms", "hits"))
            print(f"{r['model']} | {r['score']} | {words}")
        else:
            print(
                f"{r['model']}: {r['runs']} runs, {r['wrong']} wrong, {r['categories']} categories",
                *r["chosen"],
                sep="\n  ",
            )


if __name__ == "__main__":
    main()
