"""The words and letters that the report uses, each with its unit and formula; a page lists those that occur on it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Symbol:
    """One entry of the definitions: its name, unit, formula, when it is undefined, and the group it belongs to."""

    name: str
    unit: str
    meaning: str
    undefined: str
    group: str


GROUPS = {
    "general": "Terms",
    "tokens": "Movement along tokens",
    "depth": "Movement along depth",
    "lens": "The distribution that the lens reads",
    "study": "Figures of a run or a model",
}
FIGURES = ("tokens", "lens", "depth", "study")

# group | name | unit | meaning | undefined where
ENTRIES = """
general | run | | one model, one prompt, one set of sampling settings, one seed; a prompt has several runs |
general | n | | how many; always said of what |
general | step s | | the state at position P − 1 + s, from which token s was chosen (P: length of the prompt) |
general | layer l | | 0: output of the embedding; 1 … L: the residual stream after block l, before the final norm |
general | l* | | the layer of record, round(0.75 L); L, the last layer, is the second version |
general | lens | | softmax of the model's head on a layer's state, with the final norm (final_norm) or without (raw) |
general | interval | | 95 % of a prompt bootstrap: all runs of a prompt move together | fewer than two prompts
general | untrained twin | | the same network with fresh random weights: what a number is before any learning |
general | S | 1 | between-group share of the sum of squares in the best split into two groups of two or more |
tokens | instability | rad | ct = step_length × turning_angle | s < 2
tokens | step_length | 1 | |u[s] − u[s−1]|, states normalised to u = h/|h| | s = 0
tokens | turning_angle | rad | angle between successive steps of the unit states | s < 2
tokens | frozen | share | step_length < 0.001 | s = 0
tokens | zero_step | share | step_length < 0.000001: the angle is then 0 | s = 0
tokens | relative_step | 1 | |h[s] − h[s−1]| / |h[s−1]|, states not normalised | s = 0
tokens | log_rms | ln | ln of the root mean square of the state |
tokens | log_rms_core | ln | log_rms without massive dimensions |
tokens | tortuosity | 1 | path length over chord in a window of 16 steps | chord 0
depth | depth_step | 1 | step_length along depth, at a fixed step | l = 0
depth | depth_angle | rad | turning_angle along depth, at a fixed step | l < 2
depth | depth_instability | rad | depth_step × depth_angle | l < 2
depth | state_sync | 1 | cosine of h[l+1] − h[l] and h[l] − h[l−1] | l = 0, l = L
depth | coherence | 1 | cosine of h[l] and h[l+1] | l = L
depth | lens_sync | 1 | 1 − JS(p[l], p[l+1]) / ln 2 | l = 0, l = L
depth | turbulence | 1 | 1 − lens_sync | l = 0, l = L
lens | entropy | nats | −Σ p ln p |
lens | entropy_norm | 1 | entropy / ln V |
lens | nucleus_entropy | nats | entropy of the least set with mass ≥ 0.99, renormalised |
lens | nucleus_size | tokens | size of the least set with mass ≥ 0.99 |
lens | nucleus_mass | 1 | mass of that set |
lens | top1 | 1 | the largest probability, p1 |
lens | top2 | 1 | the second largest, p2 |
lens | top10_mass | 1 | mass of the ten most probable tokens |
lens | margin | 1 | p1 − p2 |
lens | rivalry | 1 | p2 / p1 |
lens | n_above_1pct | tokens | tokens with more than 1 % probability (0 … 99) |
lens | dispersion | 1 | ln(1 + n_above_1pct) / ln 100 |
lens | logit_std | nats | standard deviation of the logits over the vocabulary |
lens | surprisal | nats | −ln p of the emitted token |
lens | rank | tokens | rank of the emitted token |
lens | kl_to_final | nats | KL(p[L] ‖ p[l]) |
lens | agrees | share | the most probable token at l is that at L |
lens | branching | tokens | exp(entropy) at the output: effective number of candidates |
lens | commitment | nats | −ln branching |
lens | commit_layer | layer | least l ≥ 1 from which the most probable token stays the final one |
lens | commit_depth | 1 | commit_layer / L |
lens | commit_layer_emitted | layer | commit_layer of the emitted token | the emitted token is not the most probable
study | ratio_norm | 1 | max(ct) / mean(ct) over the first 64 defined values | fewer than 66 tokens; mean ct < 1e-8
study | ct | rad | instability along tokens | s < 2
study | collapse | share | runs that end within 5 tokens, cycle or keep < 0.2 distinct 3-grams in the last 64 |
study | states | share | by the first that holds: D full bifurcation T and S, B surface branching S, \
A hidden turbulence T, C committed top1 ≥ 0.5 and agrees, E stable; T: turbulence above q75 of calibration runs, \
S: rivalry ≥ 0.5 and n_above_1pct ≥ 2 | l = 0, l = L
study | grammar | share | explore = B or D, process = A or E, decide = C | l = 0, l = L
study | excess | 1 | probability of a transition less its mean over all orders of the same states |
study | motif | share | a word of two or three states in a chain whose repeats are written once |
study | collapse of entropy | steps | entropy_norm at the output at or below its 10th percentile in calibration for \
3 steps; reopened: above it for 3 steps |
study | Kaplan-Meier | 1 | share not yet reopened, runs that end before counted as long as they were seen |
study | share of variance | 1 | component of a term over the sum of all, from mean squares; not clipped, so it may \
be below 0 | the design lacks what the term needs
study | W | 1 | Kendall's concordance of the ranks of models over categories; ceiling: the same over random groups \
of the same prompts |
study | fingerprint | spreads | medians over prompts of features that were fixed before the study |
study | spread | 1 | pooled standard deviation between prompts within a model, the unit of fingerprints and of \
their distances |
study | consensus | group | models that share a group in most prompt resamples |
study | fragmentation | 1 | consensus groups / models |
study | ARI | 1 | adjusted Rand index of two groupings: 1 equal, 0 chance | fewer than two groups, or all models apart
study | stress | 1 | how far distances on the map are from those of the fingerprints (Kruskal) |
study | ICC | 1 | share of the variance of single prompts that lies between models |
study | normalisation | | unit u = h/|h|; raw h; rms h / root mean square; zscore and clipped_mad per dimension, \
fitted on calibration prompts |
study | paired difference | as the outcome | ambiguous prompt less the mean of its two disambiguations | \
the three differ in length by more than a token
study | twin_cosine | 1 | mean cosine of the ambiguous state to both disambiguated ones, less that between those \
two, at l* |
study | noise floor | relative | largest change of a number when only the make-up of the batch changes |
study | G | 1 | mean of top1 over steps, layers 1 … L and runs, or as the version says |
study | D | 1 | mean of rivalry over the same, or as the version says |
study | GD_ratio | 1 | mean G / mean D | mean D is 0
"""


def _read(entry: str) -> Symbol:
    group, name, unit, rest = entry.split(" | ", 3)
    meaning, _, undefined = rest.rpartition(" |")
    return Symbol(name, unit, meaning.strip() + ".", undefined.strip(), group)


SYMBOLS = tuple(_read(line.replace(" | | ", " |  | ", 1)) for line in ENTRIES.strip().splitlines())
BY_NAME = {symbol.name: symbol for symbol in SYMBOLS}


def unit_of(observable: str) -> str:
    """Give the unit of an observable (a lens suffix `__label` is ignored); empty if the name is not known here."""
    symbol = BY_NAME.get(observable.split("__")[0])
    return symbol.unit if symbol else ""


def group_of(observable: str) -> str:
    """Give the group of an observable, `study` if the name is not known here."""
    symbol = BY_NAME.get(observable.split("__")[0])
    return symbol.group if symbol else "study"


def used(names: set[str]) -> list[Symbol]:
    """Give the definitions to print: the general ones, and those of the names that occur on the page."""
    bare = {name.split("__")[0] for name in names}
    return [symbol for symbol in SYMBOLS if symbol.group == "general" or symbol.name in bare]
