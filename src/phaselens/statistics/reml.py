"""Variance components of unbalanced data by restricted maximum likelihood, from a library (statsmodels)."""

import warnings

import numpy as np

from phaselens.errors import InputError, missing_extra
from phaselens.statistics.variance import TERMS, Components, Design


def reml(y: np.ndarray) -> Components:
    """Variance components by REML (squared unit of y), none below 0; NaN cells are left out.

    The model of `statistics.variance.components` with all terms random ("sampled"). On balanced data equal to it
    wherever no component there is negative. The likelihood inverts a matrix of one row per observation: minutes above
    some 2,000 runs; fit means over seeds then (`y.mean(axis=3, keepdims=True)`).
    Shapes: y [model, category, prompt, seed], NaN where a run is missing. NaN, with a reason: a term that the design
    cannot tell from others; all terms where the fit did not converge.
    Raises MissingExtra without statsmodels, InputError for y of another shape. Source: Patterson and Thompson 1971.
    """
    try:
        from statsmodels.regression.mixed_linear_model import MixedLM, VCSpec
    except ImportError as e:
        raise missing_extra("REML", "statsmodels", "stats") from e
    y = np.asarray(y, float)
    if y.ndim != 4 or not np.isfinite(y).any():
        raise InputError(f"y must be [model, category, prompt, seed] with some defined value; got shape {y.shape}.")
    design = Design(*y.shape)
    seen = np.isfinite(y)
    m, c, p, _ = np.nonzero(seen)
    prompt = c * design.prompts + p
    levels = {
        "model": m,
        "category": c,
        "model:category": m * design.categories + c,
        "prompt": prompt,
        "model:prompt": m * design.categories * design.prompts + prompt,
    }
    kept = [t for t, free in zip(TERMS[:-1], design.separable, strict=False) if free]
    columns = [(levels[t][:, None] == np.unique(levels[t])).astype(float) for t in kept]
    names = [[[f"{t}{i}" for i in range(x.shape[1])]] for t, x in zip(kept, columns, strict=True)]
    spec = VCSpec(kept, names, [[x] for x in columns])
    values, scale = y[seen], float(y[seen].std()) or 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # convergence is read from the fit; a component at 0 is no error
        fit = MixedLM(values / scale, np.ones((len(values), 1)), np.zeros(len(values)), exog_vc=spec).fit(reml=True)
    out = np.full(len(TERMS), np.nan)
    if fit.converged:
        out[[TERMS.index(t) for t in kept]] = fit.vcomp * scale**2
        out[-1] = fit.scale * scale**2
    lost = "not separable in this design" if fit.converged else "the fit did not converge"
    return Components(out, design, "sampled", "REML (statsmodels)", tuple(lost if np.isnan(v) else "" for v in out))
