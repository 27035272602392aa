"""The words and letters that the report uses, each with its unit and formula; a page lists those that occur on it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Symbol:
    """One entry of the list of definitions: its name, unit, formula, and when it is undefined."""

    name: str
    unit: str
    meaning: str
    undefined: str = ""


GENERAL = (
    Symbol("run", "", "one model, one prompt, one set of sampling settings, one seed. A prompt has several runs."),
    Symbol("n", "", "how many; always said of what. Intervals resample prompts: all runs of a prompt move together."),
    Symbol(
        "step s",
        "",
        "the state at position P − 1 + s, from which generated token s was chosen (P: tokens of the prompt).",
    ),
    Symbol(
        "layer l", "", "0: output of the embedding; 1 … L: the residual stream after block l, before the final norm."
    ),
    Symbol("l*", "", "the layer of record, round(0.75 L). L, the last layer, is the second version."),
    Symbol(
        "lens",
        "",
        "p = softmax of the model's own head applied to a layer's state: with the final norm (final_norm), "
        "or without it (raw). At l = L the final_norm lens is the model's output.",
    ),
    Symbol(
        "interval",
        "",
        "95 % percentile interval of 2,000 prompt bootstraps, unless a row says otherwise.",
        "fewer than two prompts",
    ),
    Symbol("untrained twin", "", "the same network with fresh random weights: what the number is before any learning."),
    Symbol(
        "S",
        "1",
        "between-group over total sum of squares of the best split of the models into two groups of two or more; "
        "p against points drawn uniformly.",
    ),
)
SYMBOLS = (
    Symbol(
        "ratio_norm",
        "1",
        "max(ct) / mean(ct) over the first 64 defined steps of a run.",
        "fewer than 66 tokens; mean ct below 1e-8",
    ),
    Symbol("ct", "rad", "instability: step_length × turning_angle, along tokens.", "s < 2"),
    Symbol("instability", "rad", "ct: step_length × turning_angle, along tokens.", "s < 2"),
    Symbol("step_length", "1", "|u[s] − u[s−1]| of unit states u = h/|h|.", "s = 0"),
    Symbol("turning_angle", "rad", "angle between successive steps of the unit states.", "s < 2"),
    Symbol("frozen", "share", "steps with step_length < 0.001."),
    Symbol("relative_step", "1", "|h[s] − h[s−1]| / |h[s−1]|, states not normalised.", "s = 0"),
    Symbol("log_rms", "ln", "ln of the root mean square of the state."),
    Symbol("tortuosity", "1", "path length over chord in a window of 16 steps.", "chord 0"),
    Symbol(
        "collapse",
        "share",
        "runs that end within 5 tokens, repeat a cycle of period ≤ 20 over half of the last 64 tokens, or keep "
        "less than 0.2 distinct 3-grams there.",
    ),
    Symbol("noise floor", "1", "largest relative change of a number when only the composition of the batch changes."),
    Symbol("G", "1", "mean over steps, layers 1 … L and runs of top1 (or as the version says)."),
    Symbol("D", "1", "mean of rivalry p2/p1 over the same (or as the version says)."),
    Symbol("GD_ratio", "1", "mean G / mean D."),
    Symbol("entropy", "nats", "−Σ p ln p of the lens distribution."),
    Symbol("entropy_norm", "1", "entropy / ln V."),
    Symbol("nucleus_entropy", "nats", "entropy of the least set with mass ≥ 0.99, renormalised."),
    Symbol("nucleus_size", "tokens", "size of the least set with mass ≥ 0.99."),
    Symbol("top1", "1", "largest probability p1."),
    Symbol("top2", "1", "second largest probability p2."),
    Symbol("top10_mass", "1", "mass of the ten most probable tokens."),
    Symbol("margin", "1", "p1 − p2."),
    Symbol("rivalry", "1", "p2 / p1."),
    Symbol("n_above_1pct", "tokens", "tokens with more than 1 % probability (0 … 99)."),
    Symbol("dispersion", "1", "ln(1 + n_above_1pct) / ln 100."),
    Symbol("logit_std", "logits", "standard deviation of the logits over the vocabulary."),
    Symbol("surprisal", "nats", "−ln p of the emitted token."),
    Symbol("rank", "1", "rank of the emitted token, 1 for the most probable."),
    Symbol("kl_to_final", "nats", "KL(p[L] ‖ p[l])."),
    Symbol("agrees", "share", "argmax of p[l] is the argmax of p[L]."),
    Symbol("lens_sync", "1", "1 − JS(p[l], p[l+1]) / ln 2.", "l = L"),
    Symbol("state_sync", "1", "cosine of successive depth steps, h[l+1] − h[l] and h[l] − h[l−1].", "l = 0, l = L"),
    Symbol("coherence", "1", "cosine of h[l] and h[l+1].", "l = L"),
    Symbol("turbulence", "1", "1 − lens_sync.", "l = L"),
    Symbol("commit_depth", "1", "commit_layer / L: the least depth from which the argmax stays the final one."),
    Symbol("commitment", "nats", "−ln of the effective number of candidates: −entropy at the output."),
    Symbol("depth_step", "1", "step_length along depth at a fixed step.", "l = 0"),
    Symbol("depth_angle", "rad", "turning_angle along depth at a fixed step.", "l < 2"),
    Symbol("depth_instability", "rad", "instability along depth at a fixed step.", "l < 2"),
)
BY_NAME = {symbol.name: symbol for symbol in SYMBOLS}


def unit_of(observable: str) -> str:
    """Give the unit of an observable (a lens suffix `__label` is ignored); empty if the name is not known here."""
    symbol = BY_NAME.get(observable.split("__")[0])
    return symbol.unit if symbol else ""


def used(names: set[str]) -> list[Symbol]:
    """Give the definitions to print: the general ones, and those of the names that occur on the page."""
    bare = {name.split("__")[0] for name in names}
    return [*GENERAL, *(symbol for symbol in SYMBOLS if symbol.name in bare)]
