"""What is done to hidden states: rotation, noise, and Gaussian stand-ins of the same moments."""

from collections.abc import Callable

import torch
from torch import Tensor

from phaselens.errors import InputError


def identity(
    hidden: Tensor, generator: torch.Generator, *, labels: Tensor | None = None, blocks: Tensor | None = None
) -> Tensor:
    """The states themselves (unit of the states)."""
    return hidden


def haar(size: int, generator: torch.Generator) -> Tensor:
    """One orthogonal matrix drawn uniformly (1), float32 [size, size].

    QR of a Gaussian matrix with the signs of R's diagonal taken out. Source: Mezzadri 2007, "How to generate random
    matrices from the classical compact groups".
    """
    q, r = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))
    return (q * torch.sign(r.diagonal())).float()


def rotate(
    hidden: Tensor, generator: torch.Generator, *, labels: Tensor | None = None, blocks: Tensor | None = None
) -> Tensor:
    """One Haar rotation (or reflection) of every state (unit of the states).

    Shapes: hidden [example, d] -> [example, d]. Keeps: lengths, angles, and every refit probe's predictions.
    """
    return hidden @ haar(hidden.shape[-1], generator).to(hidden)


def noise(k: float) -> Callable[..., Tensor]:
    """Make a perturbation that adds Gaussian noise of k times the global RMS of the centred states.

    `h + k sqrt(mean (h - mean h)^2) z`, `z` standard normal; one scalar over examples and features, so features of
    small variance drown first. Raises InputError for a negative k.
    """
    _check(k)

    def perturb(
        hidden: Tensor, generator: torch.Generator, *, labels: Tensor | None = None, blocks: Tensor | None = None
    ) -> Tensor:
        size = (hidden - hidden.mean(dim=0)).square().mean().sqrt()
        return hidden + k * size * _normal(hidden.shape, generator).to(hidden)

    return perturb


def noise_per_feature(k: float) -> Callable[..., Tensor]:
    """Make a perturbation that adds Gaussian noise of k times each feature's own standard deviation."""
    _check(k)

    def perturb(
        hidden: Tensor, generator: torch.Generator, *, labels: Tensor | None = None, blocks: Tensor | None = None
    ) -> Tensor:
        size = (hidden - hidden.mean(dim=0)).square().mean(dim=0).sqrt()
        return hidden + k * size * _normal(hidden.shape, generator).to(hidden)

    return perturb


def gaussian_pooled(
    hidden: Tensor, generator: torch.Generator, *, labels: Tensor | None = None, blocks: Tensor | None = None
) -> Tensor:
    """States replaced by Gaussian draws of the pooled mean and covariance (unit of the states).

    Moments are those of each block (fold) by itself. Every draw is `mean + sum_i z_i (h_i - mean) / sqrt(n)`, `z`
    standard normal, which has exactly the sample's covariance also where there are fewer examples than features.
    Keeps: two moments. Moves with: labels no longer have to do with states.
    """
    return _gaussian(hidden, torch.zeros(len(hidden), dtype=torch.long), generator, blocks)


def gaussian_by_class(
    hidden: Tensor, generator: torch.Generator, *, labels: Tensor | None = None, blocks: Tensor | None = None
) -> Tensor:
    """States replaced by Gaussian draws of the mean and covariance of their own class (unit of the states).

    As `gaussian_pooled`, per class. Moments are taken inside each block (fold): moments over all examples would carry
    the held-out examples' chance difference of class means into the train fold, and make labels without any signal
    decodable. An example with label -1 belongs to the class of those without label.
    Raises InputError without labels.
    """
    if labels is None:
        raise InputError("Gaussian draws by class need labels.")
    return _gaussian(hidden, labels, generator, blocks)


def _gaussian(hidden: Tensor, labels: Tensor, generator: torch.Generator, blocks: Tensor | None) -> Tensor:
    blocks = torch.zeros_like(labels) if blocks is None else blocks
    out = torch.empty_like(hidden)
    for block in torch.unique(blocks):
        for label in torch.unique(labels[blocks == block]):
            members = (blocks == block) & (labels == label)
            part = hidden[members]
            mean, n = part.mean(dim=0), len(part)
            mix = _normal((n, n), generator).to(hidden) / n**0.5
            out[members] = mean + mix @ (part - mean)
    return out


def _normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator)


def _check(k: float) -> None:
    if k < 0:
        raise InputError(f"noise is k >= 0 times the RMS; got {k}.")
