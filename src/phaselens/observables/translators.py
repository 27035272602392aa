"""The tuned lens: per layer an affine map of the residual state, fitted so that the lens reads what the model will say.

Every layer has its own `h + A (h - m) + b`, started at the identity (which is the `final_norm` lens) and trained by the
KL divergence of its reading from the model's own output distribution. Layer L is left alone: there the lens is exact.
"""

import hashlib
import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from phaselens.errors import InputError
from phaselens.types import Readout

STEPS, ROWS, RATE, PENALTY = 60, 96, 0.01, 0.005
CHECK_EVERY = 10
FULL_WIDTH, RANK = 128, 64
LOGITS_AT_ONCE = 4_000_000
HELD_OUT, SELECTION, FIT = 2, 1, 0

States = Float[Tensor, "row layer d_model"]


@dataclass(frozen=True, eq=False)
class Translators:
    """Affine maps of layers 0..L-1: `h + (h D^T) U^T + b` (a translator), float32, on the CPU.

    `up` [layer, d_model, rank], `down` [layer, rank, d_model] (None: full rank, `up` reads the state itself), `bias`
    [layer, d_model]. Layer L is the identity and is not stored.
    """

    up: Tensor
    down: Tensor | None
    bias: Tensor

    @property
    def n_layers(self) -> int:
        """L of the model that they belong to."""
        return len(self.up)

    @property
    def fingerprint(self) -> str:
        """Sha256 of all numbers, in hex."""
        hasher = hashlib.sha256()
        for name, tensor in self.tensors().items():
            hasher.update(f"{name} {tuple(tensor.shape)}".encode())
            hasher.update(tensor.contiguous().numpy().tobytes())
        return hasher.hexdigest()

    def tensors(self) -> dict[str, Tensor]:
        """What they consist of, by name: the form in which they are stored."""
        low = {} if self.down is None else {"down": self.down}
        return {"up": self.up, **low, "bias": self.bias}

    def __call__(self, hidden: States, layers: tuple[int, ...]) -> States:
        """Translated states; `layers` says which layer each entry of the second axis is.

        Raises InputError for a layer beyond L or states of another width.
        """
        if hidden.shape[-1] != self.bias.shape[1] or max(layers) > self.n_layers:
            raise InputError(
                f"the translators are for layers 0..{self.n_layers} of width {self.bias.shape[1]}; got layers up to "
                f"{max(layers)} of width {hidden.shape[-1]}."
            )
        places = [i for i, layer in enumerate(layers) if layer < self.n_layers]
        if not places:
            return hidden
        own = torch.tensor([layers[i] for i in places])
        up, bias = (t[own].to(hidden.device) for t in (self.up, self.bias))
        down = None if self.down is None else self.down[own].to(hidden.device)
        out = hidden.float().clone()
        out[:, places] = _translated(out[:, places], up, down, bias)
        return out


def _translated(hidden: Tensor, up: Tensor, down: Tensor | None, bias: Tensor) -> Tensor:
    read = hidden if down is None else torch.einsum("nld,lrd->nlr", hidden, down)
    return hidden + torch.einsum("nlr,ldr->nld", read, up) + bias


@dataclass(frozen=True)
class TunedReport:
    """What the fit reached: mean KL (nats) from the final distribution, by layer 0..L-1.

    `fit_*` on the states that were trained on (the training objective), `held_out_*` on prompts that took no part in
    training or in the choice of the iterate (NaN: none); `*_tuned` under the translators, `*_plain` under `final_norm`.
    """

    fit_plain: tuple[float, ...]
    fit_tuned: tuple[float, ...]
    held_out_plain: tuple[float, ...]
    held_out_tuned: tuple[float, ...]
    n_fit: int
    n_selection: int
    n_held_out: int


def parts_of(unit: Int[Tensor, " row"]) -> Int[Tensor, " row"]:
    """Which part each row belongs to by its prompt: FIT, SELECTION (chooses the iterate) or HELD_OUT (only reports).

    Every fourth prompt is held out; of every eight one more selects. Prompts are taken in ascending order of `unit`.
    """
    rank = torch.searchsorted(torch.unique(unit), unit)
    out = torch.full_like(unit, FIT)
    out[rank % 8 == 2] = SELECTION
    out[rank % 4 == 3] = HELD_OUT
    return out


def fit_translators(
    hidden: States,
    readout: Readout,
    unit: Int[Tensor, " row"],
    *,
    rank: int | None = None,
    steps: int = STEPS,
    generator: torch.Generator,
) -> tuple[Translators, TunedReport]:
    """Fit a translator per layer on the states of all layers (0..L, L the reference), and say what it reached.

    Objective: mean over rows of KL(p[L] || p[l]) in nats, with a penalty of .005 on the squared entries of A in units
    of the layer's RMS; 60 steps of Adam on 96 rows each. Of the iterates (the identity among them) each layer keeps the
    one that is best on the selection prompts, and is put back to the identity where its training objective would be
    worse: so no layer does worse on it than the `final_norm` lens. `rank` None is full up to a width of 128, else 64.
    Constants were chosen on two bundled organisms. Deterministic for a generator in a given state.

    Raises InputError where no row is finite or there is no layer below L.
    Source: Belrose et al. 2023, "Eliciting latent predictions from transformers with the tuned lens", arXiv:2303.08112.
    """
    finite = hidden.flatten(1).isfinite().all(1)
    hidden, unit = hidden[finite].float(), unit[finite]
    if not len(hidden) or hidden.shape[1] < 2:
        raise InputError(f"a tuned lens needs finite states of at least two layers; got {tuple(hidden.shape)}.")
    part = parts_of(unit)
    fit, held = hidden[part == FIT], hidden[part == HELD_OUT]
    chosen_on = hidden[part == SELECTION] if bool((part == SELECTION).any()) else fit
    fitted = _Fit(fit, readout, _rank(rank, hidden.shape[-1]), generator)
    best = _kl(chosen_on, chosen_on[:, :-1], readout)
    plain = _kl(fit, fit[:, :-1], readout)
    kept = fitted.translators()
    for step in range(steps):
        fitted.step(step / steps)
        if (step + 1) % CHECK_EVERY == 0 or step + 1 == steps:
            here = fitted.translators()
            found = _tuned_kl(chosen_on, here, readout)
            kept, best = _better(kept, here, found < best), torch.minimum(best, found)
    worse = ~(_tuned_kl(fit, kept, readout) <= plain)
    kept = _better(kept, identity_translators(hidden.shape[1] - 1, hidden.shape[-1], fitted.rank), worse)
    report = TunedReport(
        _numbers(plain),
        fit_tuned=_numbers(_tuned_kl(fit, kept, readout)),
        held_out_plain=_numbers(_kl(held, held[:, :-1], readout)),
        held_out_tuned=_numbers(_tuned_kl(held, kept, readout)),
        n_fit=len(fit),
        n_selection=int((part == SELECTION).sum()),
        n_held_out=len(held),
    )
    return kept, report


def identity_translators(n_layers: int, width: int, rank: int | None = None) -> Translators:
    """Translators that leave every state as it is."""
    down = None if rank is None else torch.zeros(n_layers, rank, width)
    return Translators(torch.zeros(n_layers, width, rank or width), down, torch.zeros(n_layers, width))


def _rank(wanted: int | None, width: int) -> int | None:
    if wanted is not None and wanted < 1:
        raise InputError(f"the rank of a translator is at least 1; got {wanted}.")
    if wanted is None:
        return None if width <= FULL_WIDTH else RANK
    return None if wanted >= width else wanted


class _Fit:
    """Adam on all layers at once, in coordinates centred and divided by the RMS of each layer."""

    def __init__(self, hidden: States, readout: Readout, rank: int | None, generator: torch.Generator) -> None:
        n_layers, width = hidden.shape[1] - 1, hidden.shape[2]
        self.hidden, self.readout, self.rank, self.generator = hidden, readout, rank, generator
        below = hidden[:, :-1]
        self.centre = below.mean(0)
        self.scale = below.square().mean((0, 2)).sqrt().clamp(min=1e-8).view(-1, 1)
        self.up = torch.zeros(n_layers, width, rank or width, requires_grad=True)
        self.bias = torch.zeros(n_layers, width, requires_grad=True)
        self.down = None
        if rank is not None:
            self.down = torch.randn(n_layers, rank, width, generator=generator) / math.sqrt(width)
            self.down.requires_grad_()
        self.parameters = [p for p in (self.up, self.down, self.bias) if p is not None]
        self.adam = torch.optim.Adam(self.parameters, lr=RATE)
        per_row = n_layers * readout.weight.shape[0]
        self.rows = max(8, min(ROWS, len(hidden), LOGITS_AT_ONCE // per_row))

    def step(self, progress: float) -> None:
        """One step of Adam on rows drawn anew; the rate falls along a half cosine."""
        for group in self.adam.param_groups:
            group["lr"] = RATE * (0.5 + 0.5 * math.cos(math.pi * progress))
        rows = self.hidden[torch.randint(len(self.hidden), (self.rows,), generator=self.generator)]
        with torch.enable_grad():
            below = rows[:, :-1]
            moved = _translated((below - self.centre) / self.scale, self.up, self.down, self.bias)
            log_q = _log_p(moved * self.scale + self.centre, self.readout)
            loss = -(_log_p(rows[:, -1:], self.readout).detach().exp() * log_q).nansum(-1).mean(0).sum()
            loss = loss + PENALTY * self.up.square().sum()
            gradients = torch.autograd.grad(loss, self.parameters)
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        self.adam.step()

    def translators(self) -> Translators:
        """The maps as they are now, in the coordinates of the model."""
        with torch.no_grad():
            up, down = self.up.detach().clone(), None if self.down is None else self.down.detach().clone()
            read = self.centre if down is None else torch.einsum("ld,lrd->lr", self.centre, down)
            bias = self.bias * self.scale - torch.einsum("lr,ldr->ld", read, up)
            return Translators(up, down, bias.detach())


def _log_p(hidden: Tensor, readout: Readout) -> Tensor:
    return readout.logits(hidden).log_softmax(-1)


def _kl(reference: States, below: Float[Tensor, "row below d_model"], readout: Readout) -> Tensor:
    """Mean KL(p[L] || p[l]) over rows, float64 [layer]; NaN where there are no rows."""
    total = torch.zeros(below.shape[1], dtype=torch.float64)
    with torch.no_grad():
        size = max(1, LOGITS_AT_ONCE // (reference.shape[1] * readout.weight.shape[0]))
        for whole, part in zip(reference.split(size), below.split(size), strict=True):
            log_p, log_q = _log_p(whole[:, -1:], readout), _log_p(part, readout)
            total += (log_p.exp() * (log_p - log_q)).nansum(-1).double().sum(0)
    return total / len(reference) if len(reference) else torch.full_like(total, math.nan)


def _tuned_kl(hidden: States, translators: Translators, readout: Readout) -> Tensor:
    layers = tuple(range(translators.n_layers))
    with torch.no_grad():
        return _kl(hidden, translators(hidden[:, :-1], layers) if len(hidden) else hidden[:, :-1], readout)


def _better(first: Translators, second: Translators, take: Tensor) -> Translators:
    """Layer by layer the second where `take` is true, else the first."""

    def pick(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(take.view(-1, *(1,) * (a.dim() - 1)), b, a)

    down = None if first.down is None or second.down is None else pick(first.down, second.down)
    return Translators(pick(first.up, second.up), down, pick(first.bias, second.bias))


def _numbers(values: Tensor) -> tuple[float, ...]:
    return tuple(float(v) for v in values)
