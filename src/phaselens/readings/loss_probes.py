"""What a linear probe of the states knows of the next token's loss: scores of held-out documents, and their controls.

The loss that a model has on a text is partly known to it before the next token comes: its own confidence says so. The
scores made here are held against that and more by the experiment `observability`; nothing is judged here.
Source: T. Carmichael 2026, arXiv 2604.24801, whose layer was chosen on other data too.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy import stats

from phaselens.errors import InputError
from phaselens.models import Model
from phaselens.models.token_ids import encoder
from phaselens.probes.ridge import ridge_path
from phaselens.readings.examples import Places
from phaselens.readings.place_states import States, capture_states
from phaselens.statistics.partial import clustered_correlation, rank_residuals

TITLE = re.compile(r"(?m)^ *= [^=\n].*[^=\n] = *$")
# 19 shuffles are the fewest with which a p of .05 exists.
FOLDS, LAYERS, SHUFFLES, FEWEST, ROOM, START = 5, 9, 19, 10, 384, 8
L2 = (1e2, 1e3, 1e4)
COVARIATES = ("max_softmax", "norm", "entropy", "candidates", "margin")


def documents_of(path: str | Path) -> tuple[str, ...]:
    """The documents of a text file: what stands between titles as WikiText writes them, else between blank lines.

    Raises InputError for a file that cannot be read, or with fewer than ten documents of 200 characters.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the documents {path} cannot be read ({error}). Give a text file in UTF-8.") from error
    parts = TITLE.split(text) if TITLE.search(text) else re.split(r"\n\s*\n", text)
    found = tuple(part.strip() for part in parts if len(part.strip()) >= 200)
    if len(found) < FEWEST:
        raise InputError(f"{path} has {len(found)} documents of 200 characters or more; {FEWEST} are needed.")
    return found


def places_in(model: Model, documents: Sequence[str], tokens: int, seed: int) -> tuple[Places, np.ndarray, np.ndarray]:
    """About `tokens` places spread over the documents, the token that follows each, and the document of each.

    Of a document as many windows of 384 tokens are read as its share needs, each by itself; the first 8 tokens of a
    window are not. Raises InputError where too few documents are left.
    """
    ids, lo, following, document = [], [], [], []
    room = min(ROOM, (model.context or ROOM + 1) - 1)
    each, generator, encode = max(1, tokens // len(documents)), np.random.default_rng([seed, 19]), encoder(model)
    windows = -(-each // max(1, room - START - 1))
    for number, text in enumerate(documents):
        whole = tuple(encode(text[: 8 * ROOM * windows]))
        cut = [whole[i : i + room] for i in range(0, windows * room, room)]
        free = [(own, p) for own in cut if len(own) >= 2 * START for p in range(START, len(own) - 1)]
        for i in np.sort(generator.permutation(len(free))[:each]).tolist():
            own, p = free[i]
            ids.append(own)
            lo.append(p)
            following.append(own[p + 1])
            document.append(number)
    if len(set(document)) < FEWEST:
        raise InputError(f"{model.name}: {len(set(document))} documents have {2 * START} tokens; {FEWEST} are needed.")
    start = np.array(lo)
    return Places(tuple(ids), start, start + 1), np.array(following), np.array(document)


def output_of(model: Model, states: States, following: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Loss of the next token (nats) [token], and `COVARIATES` of the output, without the norm [token, 4]."""
    loss, said = [], []
    with torch.no_grad():
        for rows in np.array_split(np.arange(len(following)), max(1, len(following) // 128)):
            logits = model.readout.logits(torch.as_tensor(np.asarray(states.layers[-1][rows])).to(model.device))
            logp = torch.log_softmax(logits.float(), dim=-1)
            p, top = logp.exp(), logp.topk(2, dim=-1).values.exp()
            loss.append(-logp[torch.arange(len(rows)), torch.as_tensor(following[rows])])
            said.append(torch.stack([top[:, 0], -(p * logp).sum(-1), (p > 0.01).sum(-1), top[:, 0] - top[:, 1]], dim=1))
    return torch.cat(loss).cpu().double().numpy(), torch.cat(said).cpu().double().numpy()


def observability(
    model: Model,
    twin: Model,
    documents: Sequence[str],
    *,
    tokens: int,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, np.ndarray]:
    """Held-out scores of the next token's loss, with all that the experiment holds them against.

    Documents are parted into five folds. For each, ridge probes of the loss (normal scores) are fitted on three others
    at nine layers and three penalties; layer and penalty are those that do best, given confidence, on the fourth; the
    score is that of the fold itself. `shuffled` is the same with losses exchanged among the tokens that were fitted,
    `untrained` the same from the states of an untrained twin on the same text.
    Arrays over tokens: `loss` (nats), `score`, `untrained` (standard normal), `shuffled` [draw, token], `covariates`
    [token, 5], `document`; by fold `layer`; by layer `curve` (1, partial correlation on the choosing folds), `depth`.
    """
    places, following, document = places_in(model, documents, tokens, seed)
    layers = tuple(sorted(set(np.linspace(0, model.n_layers, LAYERS).round().astype(int).tolist())))
    states = capture_states(model, places, pool="last", layers=layers, progress=progress)
    loss, said = output_of(model, states, following)
    before = capture_states(twin, places, pool="last", layers=layers, progress=progress)
    order = np.random.default_rng([seed, 20]).permutation(document.max() + 1)
    fold = order[document] % FOLDS
    confidence = np.stack([said[:, 0], states.norm[-1]], axis=1)
    target = stats.norm.ppf((stats.rankdata(loss) - 0.5) / len(loss))
    own = scores_of(states, target, confidence, fold, document, seed)
    other = scores_of(before, target, confidence, fold, document, seed)
    norm = states.norm[own["layer"][fold], np.arange(len(loss))]
    covariates = np.column_stack([said[:, 0], norm, said[:, 1:]])
    return {
        **own,
        "untrained": other["score"],
        "loss": loss,
        "covariates": covariates,
        "document": document,
        "layer": np.array(layers)[own["layer"]],
        "depth": np.array(layers) / model.n_layers,
    }


def scores_of(
    states: States, target: np.ndarray, confidence: np.ndarray, fold: np.ndarray, document: np.ndarray, seed: int
) -> dict[str, np.ndarray]:
    """Of one split into folds: held-out `score`, `shuffled`, the place of the chosen `layer` by fold, and `curve`."""
    n, generator = len(target), np.random.default_rng([seed, 21])
    score, shuffled = np.zeros(n), np.zeros((SHUFFLES, n))
    chosen, curve = np.zeros(FOLDS, int), np.zeros((FOLDS, len(states.layers)))
    for f in range(FOLDS):
        test, choose = fold == f, fold == (f + 1) % FOLDS
        train = ~test & ~choose
        moved = np.stack([generator.permutation(target[train]) for _ in range(SHUFFLES)], axis=1)
        said = confidence[choose], target[choose], document[choose]
        wanted, best = np.column_stack([target[train], moved]), -np.inf
        for i, layer in enumerate(states.layers):
            weight, _, found = ridge_path(np.asarray(layer)[train], wanted, L2)
            whole = (torch.as_tensor(np.asarray(layer)).double() - found.centre) / found.scale
            merit = [_given(*said, (whole[torch.as_tensor(choose)] @ w[0]).numpy()) for w in weight]
            curve[f, i] = max(merit)
            if max(merit) > best:
                best, chosen[f] = max(merit), i
                read = (whole[torch.as_tensor(test)] @ weight[int(np.argmax(merit))].T).numpy().T
                ranked = stats.norm.ppf((stats.rankdata(read, axis=1) - 0.5) / read.shape[1])
        score[test], shuffled[:, test] = ranked[0], ranked[1:]
    return {"score": score, "shuffled": shuffled, "layer": chosen, "curve": curve.mean(axis=0)}


def _given(known: np.ndarray, target: np.ndarray, document: np.ndarray, score: np.ndarray) -> float:
    """Partial rank correlation of score and loss given confidence (1)."""
    left = rank_residuals(np.stack([score, target]), known)
    _, place = np.unique(document, return_inverse=True)
    return clustered_correlation(left[0], left[1], place, np.zeros((0, place.max() + 1)))[0]
