"""What must be beaten before states are worth asking: text alone, and published scores of one forward pass.

Where the words of a question say whether it will be answered right, a score of the states may know no more than they do
(PARALLAX, arXiv 2605.17028: four of six public corpora leak so). Every score is one number per run, high or low for a
wrong answer.
"""

from collections.abc import Sequence

import numpy as np

from phaselens.statistics.logistic_regression import held_out_probability

FOLDS = 5
HASHED = 2**14
TEXTS = ("words", "characters")


def text_scores(
    texts: Sequence[str], wrong: np.ndarray, units: np.ndarray, generator: np.random.Generator, *, of: str = "words"
) -> np.ndarray:
    """What words, or characters, alone say of a wrong answer (log odds less their constant): [run].

    `words`: TF-IDF of words and pairs of words; `characters`: hashed n-grams of 2 to 4 characters. Logistic regression
    (scikit-learn, C = 1), every run scored by a fit that never saw its unit (5 folds). Shapes: wrong 0 or 1 [run],
    units [run]. NaN: fewer units than folds, a training part with one class only, or texts without a word.
    """
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfVectorizer  # slow to import
    from sklearn.linear_model import LogisticRegression

    y = np.asarray(wrong).astype(int)
    names, unit = np.unique(np.asarray(units), return_inverse=True)
    out = np.full(len(y), np.nan)
    if len(names) < FOLDS:
        return out
    fold = generator.permutation(len(names))[unit] % FOLDS
    for k in range(FOLDS):
        train, test = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        if y[train].min() == y[train].max() or not any(texts[i].strip() for i in train.tolist()):
            continue
        if of == "words":
            reader = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\S+", sublinear_tf=True)
        else:
            reader = HashingVectorizer(analyzer="char_wb", ngram_range=(2, 4), n_features=HASHED, alternate_sign=False)
        x = reader.fit_transform([texts[i] for i in train.tolist()])
        fitted = LogisticRegression(solver="liblinear").fit(x, y[train])
        out[test] = fitted.decision_function(reader.transform([texts[i] for i in test.tolist()])) - fitted.intercept_[0]
    return out


def calibrated_entropy(entropy: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """CES, how extreme the mean and the largest entropy of a run are among tokens of right answers (1): [run].

    `sqrt(F0(mean) F0(max))`, F0 the empirical distribution of the entropies of single tokens of right calibration runs.
    Shapes: entropy [run, step] (nats, NaN beyond the run), reference [token]. NaN: no reference, or no token.
    Source: Villani et al. 2026, arXiv:2605.28264.
    """
    known = np.sort(np.asarray(reference, float)[np.isfinite(reference)])
    seen = np.isfinite(entropy)
    some = seen.any(1) & (len(known) > 0)
    out = np.full(len(seen), np.nan)
    if some.any():
        e = np.asarray(entropy, float)[some]
        both = np.stack([np.nanmean(e, axis=1), np.nanmax(e, axis=1)])
        out[some] = np.sqrt((np.searchsorted(known, both, "right") / len(known)).prod(axis=0))
    return out


def latent_amplitude(step_length: np.ndarray, depth_step: np.ndarray, log_rms: np.ndarray, width: int) -> np.ndarray:
    """StALT, how far states move from token to token, at the layers that move them most (unit of the stream): [run].

    `mean_t sum_l W[t, l] |h[l, t] - h[l, t-1]|` with `W[t] = softmax_l |h[l, t] - h[l-1, t]|` over blocks l >= 1. Both
    distances follow from those of unit states and the norms, `|a - b|^2 = |a| |b| |u_a - u_b|^2 + (|a| - |b|)^2`.
    Shapes: [run, step, layer 0..L] each, as recorded; `width` d. NaN: no step with all layers.
    Source: Furuya and Tanimura 2026, arXiv:2605.01853 (temperature 1 of the softmax).
    """
    norm = np.exp(np.asarray(log_rms, float)) * np.sqrt(width)

    def apart(unit: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return np.sqrt(first * second * unit**2 + (first - second) ** 2)

    along = apart(np.asarray(step_length, float)[:, 1:, 1:], norm[:, 1:, 1:], norm[:, :-1, 1:])
    deep = apart(np.asarray(depth_step, float)[:, 1:, 1:], norm[:, 1:, 1:], norm[:, 1:, :-1])
    whole = np.isfinite(along).all(2) & np.isfinite(deep).all(2)
    deep = np.where(whole[..., None], deep, 0.0)
    w = np.exp(deep - deep.max(axis=2, keepdims=True))
    moved = (np.where(whole[..., None], along, 0.0) * w).sum(2) / w.sum(2)
    n = whole.sum(1)
    return np.divide((moved * whole).sum(1), n, out=np.full(len(n), np.nan), where=n > 0)


def lens_entropies(
    entropy: np.ndarray, wrong: np.ndarray, units: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """What the mean lens entropy of every layer says of a wrong answer (log odds less their constant): [run].

    Held-out logistic regression on one mean over steps a layer: the residual part of TriLens, whose entropies of the
    outputs of attention and feed-forward are not recorded. Shapes: entropy [run, step, layer] (nats), wrong 0 or 1 and
    units [run]. NaN: as `held_out_probability`, or a run without any entropy.
    Source: Yang et al. 2026, arXiv:2606.01033.
    """
    seen = np.isfinite(entropy)
    n = seen.sum(1)
    means = np.divide(np.where(seen, entropy, 0.0).sum(1), n, out=np.full(n.shape, np.nan), where=n > 0)
    out = held_out_probability(means, wrong, units, generator, constant=False)
    return np.where(n.any(1), out, np.nan)
