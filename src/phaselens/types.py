"""Named shapes, and the one record that says how a residual state becomes logits.

Dimension names: `batch` runs side by side, `time` positions, `step` generated steps, `layer` 0..L, `d_model` the
width of the residual state, `vocab` the rows of the unembedding that are real tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

Hidden = Float[Tensor, "*batch d_model"]
Logits = Float[Tensor, "*batch vocab"]
PerLayer = Float[Tensor, "*batch step layer"]


@dataclass(frozen=True, eq=False)
class Readout:
    """How a residual state becomes logits: `cap(scale * (W norm(h) + b))`, in nats up to a constant.

    `weight` is [V, d_head], rows of real tokens only (padding rows dropped; a view, never a copy); `bias` is [V] or
    None. `norm` maps [..., d_model] to [..., d_head]: the final norm with everything else that stands before the head
    (a head block, the merge of several residual streams, a projection). `bare` is the part of it that only fits
    shapes (merge, projection); it stands in for `norm` under the raw lens, and None means that the raw state already
    fits the head. `scale` multiplies the logits; `cap` is the soft cap, `cap * tanh(x / cap)`, or None; with `centred`
    it acts on logits less their mean over the vocabulary, as a cap must that was not there in training.
    """

    weight: Tensor
    bias: Tensor | None
    norm: Callable[[Tensor], Tensor]
    scale: float = 1.0
    cap: float | None = None
    bare: Callable[[Tensor], Tensor] | None = None
    centred: bool = False

    def restrict(self, rows: Tensor) -> Readout:
        """Keep only the vocabulary `rows` (int64 [K]), in that order; copies K rows of the weight."""
        rows = rows.to(self.weight.device)
        return replace(self, weight=self.weight[rows], bias=None if self.bias is None else self.bias[rows])

    def before_head(self, hidden: Tensor, *, norm: bool = True) -> Tensor:
        """What the head reads, float32 [..., d_head], from residual states [..., d_model].

        With `norm=False` (the raw lens) the final norm is left out. Raises ValueError where the shapes then do not fit.
        """
        if norm:
            return self.norm(hidden).float()
        out = hidden if self.bare is None else self.bare(hidden)
        if out.shape[-1] != self.weight.shape[-1]:
            raise ValueError(
                f"the raw lens is undefined here: states have width {out.shape[-1]}, the head reads "
                f"{self.weight.shape[-1]}. Use the final_norm lens for this model."
            )
        return out.float()

    def logits(self, hidden: Tensor, *, norm: bool = True) -> Tensor:
        """Logits [..., V], float32, from residual states [..., d_model]; the plain reference path.

        `norm=False` gives the raw lens: the same head, scale and cap on the state without the final norm.
        """
        out = torch.nn.functional.linear(
            self.before_head(hidden, norm=norm), self.weight.float(), None if self.bias is None else self.bias.float()
        )
        if self.scale != 1.0:
            out = out * self.scale
        if self.cap is None:
            return out
        if self.centred:
            out = out - out.masked_fill(out.isneginf(), 0.0).sum(-1, keepdim=True) / (~out.isneginf()).sum(-1, True)
        return self.cap * torch.tanh(out / self.cap)
