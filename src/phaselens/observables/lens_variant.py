"""What the lens kernel knows of one variant: some tokens under one cap, at one temperature or at one for each layer."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from phaselens.observables.lens_selection import LN2, Selection, Variant
from phaselens.observables.nucleus import nucleus_by_bisection

ONE_PERCENT = 0.01
LIFT = 40
NUCLEUS_BYTES = 24 * 2**20


class Reading:
    """One variant: a selection of logits at one temperature, or at one for each layer."""

    def __init__(self, variant: Variant, selection: Selection) -> None:
        self.variant, self.of = variant, selection
        heat = variant.temperature
        device = variant.emitted.device
        heat = heat.float() if isinstance(heat, Tensor) else torch.full((selection.shape[1],), heat, device=device)
        self.plain = bool((heat == 1).all())
        self.key = variant.temperature if isinstance(variant.temperature, float) else id(variant.temperature)
        self.cold = (1 / heat).repeat(selection.shape[0])[:, None]
        # Sums of e, of e ln e, and in the second pass of p[L] ln e, of the mixture's m ln m, and of tokens above 1 %.
        self.total, self.weighted = torch.zeros(2, selection.count, dtype=selection.exact, device=device)
        self.cross, self.above = torch.zeros(2, selection.count, dtype=selection.exact, device=device)
        self.mixed = torch.zeros(selection.shape[0], selection.shape[1] - 1, dtype=selection.exact, device=device)

    def _powers(self, y: Tensor) -> Tensor:
        """2^(y / temperature), in working memory."""
        e = self.of.part(1, y.shape[1])
        return torch.exp2(y if self.plain else torch.mul(y, self.cold, out=e), out=e)

    def mass(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Sums [row] of e = 2^(y / T) and of e y / T over a tile of y = z - its peak."""
        e = self._powers(y)
        total = e.sum(-1).to(self.total.dtype)
        return total, e.mul_(y).sum(-1).mul_(self.cold[:, 0]).to(self.total.dtype)

    def add(self, mass: tuple[Tensor, Tensor], fall: Tensor | None, rise: Tensor) -> None:
        """Add the sums of a tile. `fall` is what the old peak is above the new one, less than 0, `rise` the tile's."""
        if fall is None:
            self.total, self.weighted = mass
            return
        found = []
        for (total, weighted), step in (((self.total, self.weighted), fall), (mass, rise)):
            step = (step * self.cold[:, 0]).to(total.dtype)
            shrink = torch.exp2(step)
            found.append((total * shrink, (weighted + step * total) * shrink))
        self.total, self.weighted = (sum(pair) for pair in zip(*found, strict=True))

    def settle(self) -> None:
        """Totals are whole: what follows from them."""
        of, wanted = self.of, self.of.wanted
        self.log_total = self.total.log2()
        self.entropy = ((self.log_total - self.weighted / self.total) * LN2).clamp(min=0).float()
        self.scale = (2.0**LIFT / self.total).float()[:, None]
        self.top = self._log_p(of.top)
        passing = self.top.exp() > ONE_PERCENT
        self.few = passing.sum(-1).float()
        several = of.shape[1] > 1
        # Only where all of the ten largest pass is a look at the rest needed.
        self.counts = "count_above_1pct" in wanted and bool(passing[:, -1].any())
        self.diverges, self.mixes = "kl_from_final" in wanted and several, "js_next" in wanted and several
        self.needs_second = self.counts or self.diverges or self.mixes

    def _log_p(self, z: Tensor) -> Tensor:
        """Ln p of logits [row, n]."""
        return (((z - self.of.peak[:, None]) * self.cold - self.log_total[:, None]) * LN2).float()

    def second(self, y: Tensor) -> None:
        """Add a tile to what needs probabilities; they are multiplied by 2^40 here."""
        width, shape = y.shape[1], self.of.shape
        p = self._powers(y).mul_(self.scale)
        flat_work = self.of.part(2, width)
        if self.counts:
            self.above += torch.gt(p, ONE_PERCENT * 2.0**LIFT, out=flat_work).sum(-1)
        y, p, work = (t.unflatten(0, shape) for t in (y, p, flat_work))
        if self.diverges:
            self.cross += torch.mul(y, p[:, -1:], out=work).sum(-1).flatten()
        if self.mixes:
            both = torch.add(p[:, :-1], p[:, 1:], out=work[:, :-1])
            logs = torch.log1p(both, out=p[:, :-1]).sub_((LIFT + 1) * LN2)
            self.mixed += logs.mul_(both).sum(-1)

    def statistics(self, z: Sequence[Tensor]) -> dict[str, Tensor]:
        """All statistics [row, layer]; those not asked for may be missing or wrong."""
        of, wanted = self.of, self.of.wanted
        none = (self.variant.emitted < 0).repeat_interleave(of.shape[1])
        spread = of.spread * self.cold[:, 0]
        out = {"entropy_nats": self.entropy, "logit_spread": spread, "top_log_probs": self.top}
        out["log_vocabulary"] = torch.full_like(self.entropy, math.log(of.size))
        out["count_above_1pct"] = self.above.float() if self.counts else self.few
        out["emitted_log_prob"] = self._log_p(of.capped(of.emitted_at))[:, 0].clamp(max=0).masked_fill(none, math.nan)
        out["emitted_rank"] = of.rank.masked_fill(none, math.nan)
        out["emitted_is_top"] = (of.rank == 0).float().masked_fill(none, math.nan)
        if "nucleus" in wanted:
            out["nucleus"] = self._nucleus(z)
        out = {name: values.unflatten(0, of.shape) for name, values in out.items()}
        undefined = ~out["logit_spread"].isfinite()
        cross = (self.log_total - self.cross * self.cold[:, 0] * 2.0**-LIFT).unflatten(0, of.shape) * LN2
        out["kl_from_final"] = (cross.float() - out["entropy_nats"][:, -1:]).clamp(min=0)
        out["kl_from_final"][:, -1] = 0.0
        out["agrees_with_final"] = of.agrees.unflatten(0, of.shape).masked_fill(undefined[:, -1:], math.nan)
        out["js_next"] = self._js(out["entropy_nats"])
        return {
            name: values.masked_fill(undefined if values.dim() == 2 else undefined.unsqueeze(-1), math.nan)
            for name, values in out.items()
        }

    def _js(self, entropy: Tensor) -> Tensor:
        """Jensen-Shannon divergence of each layer to the next, H((p+q)/2) - (H(p)+H(q))/2 in nats; NaN at the last."""
        out = torch.full_like(entropy, math.nan)
        mixture = self.mixed.float() * -(2.0 ** -(LIFT + 1))
        out[:, :-1] = (mixture - 0.5 * (entropy[:, 1:] + entropy[:, :-1])).clamp(0, LN2)
        return out

    def _nucleus(self, z: Sequence[Tensor]) -> Tensor:
        """Mass, size and entropy of the nucleus [row, 3], some whole rows at a time."""
        of, out = self.of, []
        at_once = max(1, NUCLEUS_BYTES // (4 * of.size))
        for start in range(0, of.count, at_once):
            rows = slice(start, start + at_once)
            v = torch.cat([of.own(i, tile[rows]) for i, tile in enumerate(z)], 1)
            y = (of.capped(v, rows) - of.peak[rows, None]) * self.cold[rows]
            total = self.total[rows].float()
            p = torch.exp2(y).div_(total[:, None])
            out.append(nucleus_by_bisection(p, y * LN2, torch.empty_like(y), self.top[rows], total.log()))
        return torch.cat(out)
