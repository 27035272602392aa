"""How the next token is chosen: greedy, or drawn with numbers that belong to the run and not to the batch."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from phaselens.errors import InputError

LEAST_TEMPERATURE = 1e-6
NOT_FINITE = (
    "the logits hold NaN or infinity, so no next token can be chosen. Weights or states overflow: try --dtype float32 "
    "(or bfloat16), and see `phaselens models check MODEL`."
)


@dataclass(frozen=True)
class Sampling:
    """Settings of one sampling arm.

    `temperature` 0 is greedy, and then `top_p` and `top_k` have no effect. `top_p` keeps the least set of tokens whose
    mass reaches it (1 keeps all), `top_k` the k likeliest (0 keeps all); both are taken after the temperature, `top_k`
    first. `suppress_eos` gives end-of-text probability 0, so that every run has the length asked for; None: so it is
    for bare text, and in a conversation a run ends with its turn.

    Raises InputError for a temperature below 0 or between 0 and 1e-6 (logits divided by less leave float32), `top_p`
    outside (0, 1], or `top_k` below 0.
    """

    temperature: float = 0.7
    top_p: float = 1.0
    top_k: int = 0
    suppress_eos: bool | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise InputError(
                f"temperature {self.temperature} makes no distribution; give 0 (greedy) or a number above 0."
            )
        if 0 < self.temperature < LEAST_TEMPERATURE:
            raise InputError(
                f"temperature {self.temperature} is less than float32 can divide logits by; give 0 (greedy) or at "
                f"least {LEAST_TEMPERATURE:g}."
            )
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p {self.top_p} is no share of the mass; give a number above 0 and at most 1.")
        if self.top_k < 0:
            raise InputError(f"top_k {self.top_k} is no number of tokens; give 0 (all) or a count.")

    @property
    def arm(self) -> str:
        """Short name for tables: `greedy`, `t0.7`, `t1-p0.9`, `t1-k40`; `-eos` where the text may end by itself."""
        name = f"t{self.temperature:g}" if self.temperature else "greedy"
        if self.temperature and self.top_p < 1:
            name += f"-p{self.top_p:g}"
        if self.temperature and self.top_k:
            name += f"-k{self.top_k}"
        return f"{name}-eos" if self.suppress_eos is False else name

    def settled(self, in_turns: bool) -> "Sampling":
        """The same with `suppress_eos` said, for prompts that are conversations or bare text."""
        return self if self.suppress_eos is not None else replace(self, suppress_eos=not in_turns)

    def to_dict(self) -> dict[str, object]:
        """The settings as plain JSON values."""
        return asdict(self)


GREEDY = Sampling(temperature=0.0)


def uniforms(seed: int, prompt_ids: Sequence[int], sample: int, n: int) -> np.ndarray:
    """`n` numbers in [0, 1), float64, that belong to (seed, prompt, sample) and to nothing else.

    A counter-based generator (Philox) keyed by a hash of the three, so a run draws the same numbers alone, in any
    batch, and for any `n` (the first of a longer row are those of a shorter one). Two equal prompts with equal seed
    and sample are one run, drawn twice.
    """
    text = f"{seed}|{sample}|{','.join(map(str, prompt_ids))}"
    key = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "little")
    return np.random.Generator(np.random.Philox(key=key)).random(n)


def choose(
    logits: Float[Tensor, "run vocab"], uniform: Float[Tensor, " run"] | None, sampling: Sampling
) -> Int64[Tensor, " run"]:
    """The next token of every run: the likeliest, or the inverse of the distribution function at `uniform`.

    The distribution function runs over the vocabulary in order of token ids. A logit may be -inf (a token ruled out).
    Raises InputError where a logit is NaN or +inf, or all are -inf: there is nothing to choose from.
    """
    highest, likeliest = logits.max(dim=-1)
    if not bool(highest.isfinite().all()):
        raise InputError(NOT_FINITE)
    if sampling.temperature == 0 or uniform is None:
        return likeliest
    scores = logits.float() / sampling.temperature
    if 0 < sampling.top_k < scores.shape[-1]:
        least = scores.topk(sampling.top_k, dim=-1).values[:, -1:]
        scores = scores.masked_fill(scores < least, -torch.inf)
    p = scores.softmax(dim=-1)
    if sampling.top_p < 1:
        p = _nucleus(p, sampling.top_p)
    exact = torch.float32 if p.device.type == "mps" else torch.float64  # that device has no float64
    cdf = p.cumsum(dim=-1, dtype=exact)
    total = cdf[:, -1:]
    # A float32 uniform can round up to 1, which would lie behind the last token that has any probability.
    below = torch.nextafter(total, torch.zeros_like(total))
    target = torch.minimum(uniform.to(device=p.device, dtype=exact)[:, None] * total, below)
    return torch.searchsorted(cdf, target, right=True)[:, 0].clamp(max=p.shape[-1] - 1)


def _nucleus(p: Float[Tensor, "run vocab"], mass: float) -> Float[Tensor, "run vocab"]:
    """Drop all but the least set of tokens whose probability reaches `mass` (ties at its edge are kept)."""
    ranked = p.sort(dim=-1, descending=True).values
    size = (ranked.cumsum(dim=-1) < mass).sum(dim=-1, keepdim=True).clamp(max=p.shape[-1] - 1)
    return p.masked_fill(p < ranked.gather(-1, size), 0.0)
