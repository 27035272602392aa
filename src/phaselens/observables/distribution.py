"""Observables of the next-token distribution that the lens reads at each layer, and at the output.

They are short formulas on the statistics of lens.py, each [*batch, layer, step]. Logarithms are natural. A value is NaN
where the lens has no distribution (the state is not finite or was not recorded) or, for the emitted token, where that
token is not in the lens's vocabulary. G = top1 and D = rivalry are the two numbers behind `GD_ratio`.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from phaselens.observables.spec import observable

Values = Float[Tensor, "*batch layer step"]
Top = Float[Tensor, "*batch layer step top"]
Steps = Float[Tensor, "*batch step"]
Nucleus = Float[Tensor, "*batch layer step 3"]
Layers = Int[Tensor, " layer"]

SHIFT = {"logit_shift", "vocabulary_permutation"}
ORDER = SHIFT | {"temperature"}


@observable(axis="vocabulary", unit="nat", bounds=(0.0, math.inf), keeps=SHIFT)
def entropy(entropy_nats: Values) -> Values:
    """Entropy of the lens distribution, in nats.

    -sum p ln p. Not comparable across vocabularies (see `entropy_norm`).
    Keeps: a shift of all logits. Moves with: temperature, vocabulary size, the lens.
    Source: Shannon 1948, doi:10.1002/j.1538-7305.1948.tb01338.x.
    """
    return entropy_nats


@observable(axis="vocabulary", unit="1", bounds=(0.0, 1.0 + 1e-5), keeps=SHIFT)
def entropy_norm(entropy_nats: Values, log_vocabulary: Values) -> Values:
    """Entropy of the lens distribution over that of the uniform one, dimensionless.

    entropy / ln V. NaN for V = 1.
    Keeps: a shift of all logits. Moves with: temperature; less than entropy with V.
    Source: docs/definitions, section 3.
    """
    return entropy_nats / log_vocabulary


@observable(axis="vocabulary", unit="1", bounds=(0.0, 1.0 + 1e-5), keeps=SHIFT)
def top1(top_log_probs: Top) -> Values:
    """Probability of the most probable token, p1 (G of `GD_ratio`), dimensionless.

    Keeps: a shift of all logits. Moves with: temperature.
    Source: docs/definitions, section 3.
    """
    return top_log_probs[..., 0].exp()


@observable(axis="vocabulary", unit="1", bounds=(0.0, 0.5 + 1e-5), keeps=SHIFT)
def top2(top_log_probs: Top) -> Values:
    """Probability of the second most probable token, p2, dimensionless.

    Keeps: a shift of all logits. Moves with: temperature.
    Source: docs/definitions, section 3.
    """
    return top_log_probs[..., 1].exp()


@observable(axis="vocabulary", unit="1", bounds=(0.0, 1.0 + 1e-5), keeps=SHIFT)
def margin(top_log_probs: Top) -> Values:
    """Difference of the two largest probabilities, dimensionless.

    p1 - p2.
    Keeps: a shift of all logits. Moves with: temperature.
    Source: docs/definitions, section 3.
    """
    return top_log_probs[..., 0].exp() - top_log_probs[..., 1].exp()


@observable(axis="vocabulary", unit="1", bounds=(0.0, 1.0), keeps=SHIFT)
def rivalry(top_log_probs: Top) -> Values:
    """Second largest probability over the largest (D of `GD_ratio`), dimensionless.

    p2 / p1, from their logarithms.
    Keeps: a shift of all logits. Moves with: temperature.
    Source: docs/definitions, section 3.
    """
    return (top_log_probs[..., 1] - top_log_probs[..., 0]).exp()


@observable(axis="vocabulary", unit="1", bounds=(0.0, 1.0 + 1e-5), keeps=SHIFT)
def top10_mass(top_log_probs: Top) -> Values:
    """Probability of the ten most probable tokens together, dimensionless.

    Keeps: a shift of all logits. Moves with: temperature.
    Source: docs/definitions, section 3.
    """
    return top_log_probs.exp().sum(-1)


@observable(axis="vocabulary", unit="token", bounds=(0.0, 99.0), keeps=SHIFT, dtype="int")
def n_above_1pct(count_above_1pct: Values) -> Values:
    """Number of tokens with probability above 1 %, in tokens.

    Strict: p > 0.01, so 0 to 99.
    Keeps: a shift of all logits. Moves with: temperature.
    Source: docs/definitions, section 3.
    """
    return count_above_1pct


@observable(axis="vocabulary", unit="1", bounds=(0.0, 1.0 + 1e-6), keeps=SHIFT)
def dispersion(count_above_1pct: Values) -> Values:
    """Number of tokens above 1 % on a logarithmic scale from 0 to 1, dimensionless.

    ln(1 + n) / ln 100.
    Keeps: a shift of all logits. Moves with: temperature.
    Source: docs/definitions, section 3.
    """
    return count_above_1pct.log1p() / math.log(100)


@observable(axis="vocabulary", unit="nat", bounds=(0.0, math.inf), keeps=SHIFT)
def logit_std(logit_spread: Values) -> Values:
    """Standard deviation of the logits over the vocabulary, in nats.

    sqrt(mean (z - mean z)^2), after scale, cap and temperature; divided by T under temperature T.
    Keeps: a shift of all logits. Moves with: temperature (exactly as 1/T).
    Source: docs/definitions, section 3.
    """
    return logit_spread


@observable(axis="vocabulary", unit="nat", bounds=(0.0, math.inf), keeps=SHIFT)
def surprisal(emitted_log_prob: Values) -> Values:
    """Negative log-probability of the token that was emitted, in nats.

    -ln p(emitted). NaN where the emitted token is not in the vocabulary of the lens.
    Keeps: a shift of all logits. Moves with: temperature.
    Source: docs/definitions, section 3.
    """
    return -emitted_log_prob


@observable(axis="vocabulary", unit="token", bounds=(0.0, math.inf), keeps=ORDER, dtype="int")
def rank(emitted_rank: Values) -> Values:
    """Number of tokens more probable than the emitted one, in tokens.

    0 for the most probable; ties do not count. NaN where the emitted token is not in the vocabulary of the lens.
    Keeps: a shift of all logits, temperature.
    Source: docs/definitions, section 3.
    """
    return emitted_rank


@observable(axis="layer", unit="nat", bounds=(0.0, math.inf), keeps=SHIFT)
def kl_to_final(kl_from_final: Values) -> Values:
    """Divergence of the layer's distribution from the final one, in nats.

    KL(p[L] || p[l]), both under the same lens; 0 at L.
    Keeps: a shift of all logits. Moves with: temperature, the lens.
    Source: docs/definitions, section 3.
    """
    return kl_from_final


@observable(axis="layer", unit="1", bounds=(0.0, 1.0), keeps=ORDER, dtype="bool")
def agrees(agrees_with_final: Values) -> Values:
    """Whether the layer's most probable token is the final one, as 0 or 1.

    argmax p[l] == argmax p[L], both under the same lens; a token that ties for the first place counts as the argmax.
    Keeps: a shift of all logits, temperature.
    Source: docs/definitions, section 3.
    """
    return agrees_with_final


@observable(axis="layer", unit="1", bounds=(0.0, 1.0), keeps=SHIFT)
def lens_sync(js_next: Values, layers: Layers, n_blocks: int) -> Values:
    """Agreement of the distributions of neighbouring layers, dimensionless.

    1 - JS(p[l], p[l+1]) / ln 2 for l = 1..L-1. NaN at l = 0, at L, and below an unrecorded layer.
    Keeps: a shift of all logits. Moves with: temperature, the lens.
    Source: docs/definitions, section 4; Lin 1991, doi:10.1109/18.61115.
    """
    follows = torch.zeros_like(layers, dtype=torch.bool)
    follows[:-1] = (layers[1:] - layers[:-1] == 1) & (layers[:-1] >= 1)
    return (1 - js_next / math.log(2)).masked_fill(~follows.unsqueeze(-1), math.nan)


@observable(axis="layer", unit="1", bounds=(0.0, 1.0), keeps=SHIFT)
def turbulence(js_next: Values, layers: Layers, n_blocks: int) -> Values:
    """Disagreement of the distributions of neighbouring layers, dimensionless.

    1 - lens_sync. NaN where `lens_sync` is.
    Keeps: a shift of all logits. Moves with: temperature, the lens.
    Source: docs/definitions, section 4.
    """
    return 1 - lens_sync(js_next, layers, n_blocks)


@observable(axis="vocabulary", unit="1", bounds=(0.99 - 1e-5, 1.0), keeps=SHIFT)
def nucleus_mass(nucleus: Nucleus) -> Values:
    """Probability of the least set of tokens that holds at least 99 %, dimensionless.

    Keeps: a shift of all logits. Moves with: temperature.
    Source: docs/definitions, section 3; Holtzman et al. 2020, arXiv:1904.09751.
    """
    return nucleus[..., 0]


@observable(axis="vocabulary", unit="token", bounds=(1.0, math.inf), keeps=SHIFT, dtype="int")
def nucleus_size(nucleus: Nucleus) -> Values:
    """Number of tokens in the least set that holds at least 99 %, in tokens.

    Where the tail is flat it is good to the rounding of float32 sums (about one part in 10^5).
    Keeps: a shift of all logits. Moves with: temperature.
    Source: docs/definitions, section 3; Holtzman et al. 2020, arXiv:1904.09751.
    """
    return nucleus[..., 1]


@observable(axis="vocabulary", unit="nat", bounds=(0.0, math.inf), keeps=SHIFT)
def nucleus_entropy(nucleus: Nucleus) -> Values:
    """Entropy of the distribution restricted to the least set that holds at least 99 %, renormalised, in nats.

    Keeps: a shift of all logits. Moves with: temperature.
    Source: docs/definitions, section 3.
    """
    return nucleus[..., 2]


@observable(axis="layer", per="step", unit="layer", bounds=(1.0, math.inf), keeps=ORDER, dtype="int")
def commit_layer(agrees_with_final: Values, layers: Layers, n_blocks: int) -> Steps:
    """First layer from which the most probable token stays the final one, in layers.

    Least l >= 1 such that argmax p[l'] = argmax p[L] for all l' >= l. NaN unless every layer 1..L was recorded.
    Keeps: a shift of all logits, temperature. Moves with: the lens.
    Source: docs/definitions, section 4.
    """
    blocks = layers >= 1
    whole = bool(blocks.sum() == n_blocks) and bool(layers[-1] == n_blocks)
    if not whole:
        return torch.full_like(agrees_with_final[..., 0, :], math.nan)
    return n_blocks + 1 - agrees_with_final[..., blocks, :].flip(-2).cumprod(-2).sum(-2)


@observable(axis="layer", per="step", unit="1", bounds=(0.0, 1.0), keeps=ORDER)
def commit_depth(agrees_with_final: Values, layers: Layers, n_blocks: int) -> Steps:
    """Relative depth from which the most probable token stays the final one, dimensionless.

    commit_layer / L. NaN where `commit_layer` is.
    Keeps: a shift of all logits, temperature. Moves with: the lens.
    Source: docs/definitions, section 4.
    """
    return commit_layer(agrees_with_final, layers, n_blocks) / n_blocks


@observable(axis="layer", per="step", unit="layer", bounds=(1.0, math.inf), keeps=ORDER, dtype="int")
def commit_layer_emitted(agrees_with_final: Values, emitted_is_top: Values, layers: Layers, n_blocks: int) -> Steps:
    """First layer from which the most probable token stays the emitted one, in layers.

    commit_layer where the emitted token is the final argmax, else NaN: the share of NaN is the rate of sampled tokens
    that the output did not rank first.
    Keeps: a shift of all logits, temperature. Moves with: the lens, the sampling.
    Source: docs/definitions, section 4.
    """
    committed = commit_layer(agrees_with_final, layers, n_blocks)
    return committed.masked_fill(emitted_is_top[..., -1, :] != 1, math.nan)


@observable(axis="vocabulary", per="step", unit="token", bounds=(1.0, math.inf), keeps=SHIFT)
def branching(entropy_nats: Values, layers: Layers, n_blocks: int) -> Steps:
    """Effective number of candidates at the output, in tokens.

    exp(entropy) at layer L. NaN where layer L was not recorded.
    Keeps: a shift of all logits. Moves with: temperature.
    Source: docs/definitions, section 4.
    """
    return (-commitment(entropy_nats, layers, n_blocks)).exp()


@observable(axis="vocabulary", per="step", unit="nat", bounds=(-math.inf, 0.0), keeps=SHIFT)
def commitment(entropy_nats: Values, layers: Layers, n_blocks: int) -> Steps:
    """Negative logarithm of the effective number of candidates at the output, in nats.

    -ln branching = -entropy at layer L. NaN where layer L was not recorded.
    Keeps: a shift of all logits. Moves with: temperature.
    Source: docs/definitions, section 4.
    """
    last = -entropy_nats[..., -1, :]
    return last if layers[-1] == n_blocks else torch.full_like(last, math.nan)
