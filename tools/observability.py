"""The published table of observability on models here: several splits of the documents, both ways of partialling out.

`python tools/observability.py MODEL... --documents test.txt --tokens 20000 --out rows.json` reads each model and its
untrained twin once and parts the documents anew for every seed. The experiment `observability` judges O1 from one split
with intervals over documents; this prints what T. Carmichael (arXiv 2604.24801) prints: Spearman's correlation of score
and loss, given max-softmax and norm, and given entropy too, mean and SD over seeds. `straight` takes covariates out
along straight lines of ranks, as published; `curved` along the curves that O1 uses.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from scipy import stats

import phaselens
from phaselens.experiments.base import StoredScores
from phaselens.experiments.observability import Found, of_scores
from phaselens.models import untrained_twin
from phaselens.readings import loss_probes as reading
from phaselens.readings.place_states import capture_states
from phaselens.statistics.intervals import expanded_interval
from phaselens.statistics.partial import rank_residuals

GIVEN = {"raw": 0, "given confidence": 2, "and entropy": 3, "and rank, margin": 5}
TWIN_SEED = 7


def straight(loss: np.ndarray, score: np.ndarray, covariates: np.ndarray) -> float:
    """Spearman's partial correlation (1): ranks less their least-squares line on the ranks of the covariates."""
    ranked = stats.rankdata(np.column_stack([loss, score, covariates]), axis=0)
    x = np.column_stack([np.ones(len(loss)), ranked[:, 2:]])
    left = ranked[:, :2] - x @ np.linalg.lstsq(x, ranked[:, :2], rcond=None)[0]
    return float(np.corrcoef(left.T)[0, 1])


def curved(loss: np.ndarray, score: np.ndarray, covariates: np.ndarray) -> float:
    """The same with the cubic products of O1 (1)."""
    return float(np.corrcoef(rank_residuals(np.stack([loss, score]), covariates))[0, 1])


def rows_of(source: str, documents: tuple[str, ...], tokens: int, seeds: int) -> list[dict]:
    """One row a seed and kind of states (the model's own, its untrained twin's)."""
    model = phaselens.load(source)
    places, following, document = reading.places_in(model, documents, tokens, 0)
    layers = tuple(sorted(set(np.linspace(0, model.n_layers, reading.LAYERS).round().astype(int).tolist())))
    own = capture_states(model, places, pool="last", layers=layers)
    loss, said = reading.output_of(model, own, following)
    twin = capture_states(untrained_twin(model, TWIN_SEED), places, pool="last", layers=layers)
    target = stats.norm.ppf((stats.rankdata(loss) - 0.5) / len(loss))
    confidence = np.stack([said[:, 0], own.norm[-1]], axis=1)
    out = []
    for seed in range(seeds):
        fold = np.random.default_rng([seed, 20]).permutation(document.max() + 1)[document] % reading.FOLDS
        given = (target, confidence, fold, document, seed)
        both = {kind: reading.scores_of(x, *given) for kind, x in (("own", own), ("untrained", twin))}
        norm = own.norm[both["own"]["layer"][fold], np.arange(len(loss))]
        covariates = np.column_stack([said[:, 0], norm, said[:, 1:]])
        for kind, found in both.items():
            row = {"model": source.rstrip("/").rpartition("/")[2], "states": kind, "seed": seed, "tokens": len(loss)}
            row |= {"per_dimension": len(loss) / model.d_model, "documents": len(set(document.tolist()))}
            row |= {"n_layers": model.n_layers, "layers": [layers[i] for i in found["layer"]]}
            for way in (straight, curved):
                of = {name: way(loss, found["score"], covariates[:, :k]) for name, k in GIVEN.items()}
                row |= {f"{way.__name__}: {name}": value for name, value in of.items()}
            row["shuffled"] = [curved(loss, s, covariates[:, :3]) for s in found["shuffled"][:5]]
            out.append(row)
        if not seed:
            kept = StoredScores(
                loss,
                both["own"]["score"],
                both["untrained"]["score"],
                both["own"]["shuffled"],
                covariates,
                document,
                np.array(layers)[both["own"]["layer"]],
                np.array(layers) / model.n_layers,
                both["own"]["curve"],
            )
            out[-2]["over documents"] = [as_o1_has_it(found) for found in of_scores(model.name, kept, 0, 2000)]
    return out


def as_o1_has_it(found: Found) -> dict:
    """One row of the table `observability`: intervals over documents, beside the twin and shuffled losses."""
    own, twin = (expanded_interval(draws, found.n_units) for draws in (found.draws, found.twin[1]))
    return {
        "given": found.given,
        "estimate": found.value,
        "interval": [own.lo, own.hi],
        "untrained": found.twin[0],
        "untrained interval": [twin.lo, twin.hi],
        "shuffled": [float(x) for x in np.quantile(found.shuffled, [0, 1])],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--documents", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=20_000)
    parser.add_argument("--seeds", type=int, default=7)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    documents, rows = reading.documents_of(given.documents), []
    for source in given.models:
        rows += rows_of(source, documents, given.tokens, given.seeds)
        given.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    for name, kind in dict.fromkeys((r["model"], r["states"]) for r in rows):
        mine = [r for r in rows if (r["model"], r["states"]) == (name, kind)]
        layers = sorted({layer for r in mine for layer in r["layers"]})
        print(
            f"{name} ({kind}), {mine[0]['tokens']} tokens, {mine[0]['per_dimension']:.0f} a dimension, layers {layers}"
        )
        for way in ("straight", "curved"):
            of = (np.array([r[f"{way}: {g}"] for r in mine]) for g in GIVEN)
            print(f"  {way}: " + " / ".join(f"{v.mean():.3f} ({v.std(ddof=1) if len(v) > 1 else 0:.3f})" for v in of))
        for row in mine[0].get("over documents", ()):
            print("  O1,", json.dumps(row))


if __name__ == "__main__":
    main()
