"""Probes after fitting: coefficients and the classes they tell apart, and nothing that could fit again."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from phaselens.errors import InputError
from phaselens.probes.design import as_features


@dataclass(frozen=True, eq=False)
class Probes:
    """Frozen linear probes of every layer, labels row and train row (scores in nats of log-odds for a logistic probe).

    `score_k(x) = weight_k . (x - centre) / scale + bias_k`. Shapes: weight [layer, *lead, K', d] with K' = 1 for two
    classes (the score of the second; that of the first is 0) and K' = K otherwise; bias [layer, *lead, K']; centre
    [layer, *lead, d]; scale [layer, *lead]; classes [K]; l2 [layer, *lead] (the penalty each took; NaN: none).
    """

    weight: Tensor
    bias: Tensor
    centre: Tensor
    scale: Tensor
    classes: np.ndarray
    l2: np.ndarray

    def scores(self, X: Iterable) -> Tensor:
        """Score of every class (nats, up to a constant): X (layer, example, d) -> [layer, *lead, example, K]."""
        out = [self.layer_scores(i, layer) for i, layer in self._layers(X)]
        return torch.stack(out)

    def predict(self, X: Iterable) -> np.ndarray:
        """The class of the largest score: X (layer, example, d) -> classes [layer, *lead, example]."""
        return self.classes[self.scores(X).argmax(dim=-1).cpu().numpy()]

    def predict_proba(self, X: Iterable) -> Tensor:
        """Softmax of the scores (probability): X (layer, example, d) -> [layer, *lead, example, K]."""
        return torch.softmax(self.scores(X), dim=-1)

    def directions(self) -> Tensor:
        """What each score adds per unit of the raw state, weight / scale: [layer, *lead, K', d]."""
        return self.weight / self.scale[..., None, None]

    def _layers(self, X: Iterable) -> Iterable[tuple[int, Tensor]]:
        count = 0
        for i, layer in enumerate(X):
            count += 1
            features = as_features(layer, f"layer {i}")
            if i >= len(self.weight) or features.shape[1] != self.weight.shape[-1]:
                break
            yield i, features
        if count != len(self.weight):
            raise InputError(
                f"these probes read (layer, example, d) = ({len(self.weight)}, any, {self.weight.shape[-1]}); got "
                f"{tuple(getattr(X, 'shape', (f'{count} layers',)))}."
            )

    def layer_scores(self, i: int, features: Tensor) -> Tensor:
        """Score of every class at one layer (nats): features [example, d] -> [*lead, example, K]."""
        lead, rows = self.scale[i].shape, self.weight.shape[-2]
        # One shift for all rows keeps large constant features out of the product.
        shift = self.centre[i].reshape(-1, features.shape[1]).double().mean(dim=0)
        raw = self.weight[i].double() / self.scale[i].double()[..., None, None]
        offset = self.bias[i].double() - (raw @ (self.centre[i].double() - shift)[..., None])[..., 0]
        flat = raw.reshape(-1, features.shape[1]).to(features.dtype)
        scores = (features - shift.to(features.dtype)) @ flat.T + offset.reshape(-1).to(features.dtype)
        scores = scores.T.reshape(*lead, rows, len(features)).movedim(-2, -1)
        return torch.cat([torch.zeros_like(scores), scores], dim=-1) if rows == 1 else scores
