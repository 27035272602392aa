"""Mass-mean probes: the difference of class means as a direction, plain or whitened by the pooled covariance."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from phaselens.errors import InputError
from phaselens.probes.design import as_features
from phaselens.probes.frozen import Probes
from phaselens.probes.logistic import check_classes, encode


def fit_mass_mean(X: Iterable, y: np.ndarray, *, whiten: bool = False, shrinkage: float = 1e-3) -> Probes:
    """Mass-mean probes of every layer, frozen (score: linear discriminant without priors, squared scaled units).

    `score_k(x) = m_k.P x - m_k.P m_k / 2`, m_k the class mean; P = identity (nearest class mean), or with `whiten` the
    inverse of the pooled within-class covariance `(1 - a) S + a tr(S)/d I`, a = shrinkage (equal priors). Equal to
    scikit-learn's `NearestCentroid` and `LinearDiscriminantAnalysis(solver="lsqr", shrinkage=a, priors=equal)`.
    Shapes: X (layer, example, d), y [example]; the probes lead with (layer,). Examples labelled -1 are left out.
    Keeps: rotation; with whitening and no shrinkage any invertible map. Raises InputError for one class, NaN, or a
    shrinkage outside [0, 1].
    Source: Marks and Tegmark 2023, "The geometry of truth"; Fisher 1936.
    """
    if not 0 <= shrinkage <= 1:
        raise InputError(f"shrinkage lies in [0, 1]; got {shrinkage}.")
    codes, classes = encode(y)
    if codes.ndim != 1:
        raise InputError(f"one label per example is needed; got labels of shape {codes.shape}.")
    used = codes >= 0
    check_classes(codes[None], used[None], len(classes))
    member = torch.as_tensor(codes[used][:, None] == np.arange(len(classes)), dtype=torch.float64)
    parts = []
    for index, layer in enumerate(X):
        features = as_features(layer, f"layer {index}")
        if len(features) != len(codes):
            raise InputError(f"layer {index} has {len(features)} examples, and there are {len(codes)} labels.")
        parts.append(_fit_layer(features[torch.as_tensor(used)].double(), member, whiten, shrinkage))
    weight, bias, centre, scale = (torch.stack(column) for column in zip(*parts, strict=True))
    return Probes(weight.float(), bias.float(), centre.float(), scale, classes, np.full(len(parts), np.nan))


def _fit_layer(features: Tensor, member: Tensor, whiten: bool, shrinkage: float) -> tuple[Tensor, ...]:
    centre = features.mean(dim=0)
    scale = (features - centre).square().mean().sqrt()
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    ready = (features - centre) / scale
    means = member.T @ ready / member.sum(dim=0)[:, None]
    weight = means
    if whiten:
        within = ready - member @ means
        # Classes weigh the same, as their priors do.
        within = within * (1 / (member.sum(dim=0) * member.shape[1])).sqrt()[member.argmax(dim=1), None]
        covariance = within.T @ within
        level = covariance.diagonal().mean()
        covariance = (1 - shrinkage) * covariance
        covariance.diagonal().add_(shrinkage * level)
        weight = torch.linalg.lstsq(covariance, means.T, driver="gelsd").solution.T
    bias = -(weight * means).sum(dim=1) / 2
    if len(means) == 2:
        weight, bias = weight[1:] - weight[:1], bias[1:] - bias[:1]
    return weight, bias, centre, scale.float()
