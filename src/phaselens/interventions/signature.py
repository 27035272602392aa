"""The perturbation signature of one model: noise at every layer and strength, followed to the output.

Draws and strengths of one prompt are one batch. Blocks below the perturbed layer are not run again: the pass begins at
the layer with the states of the unchanged run, which is one row.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from phaselens.capture.intervene import At, Clock, Where, intervening
from phaselens.dynamics.perturbation_signatures import deciding, gain
from phaselens.errors import InputError, ModelRefused
from phaselens.interventions.outcome_records import Signature
from phaselens.models import Model, record
from phaselens.models.discover import probe_ids
from phaselens.models.forward import unpadded
from phaselens.models.hooks import begun_at, forms_of
from phaselens.models.sites import check_site
from phaselens.perturbations import inside
from phaselens.products import ByOneDNN
from phaselens.trace.transcripts import Transcript, Transcripts

STRENGTHS = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0)
DRAWS = 16
BESIDE = ("unmatched", "difference", "no massive")
ROWS_AT_ONCE = 8  # of logits compared at a time
CELLS = 1 << 24  # numbers in the logits of one pass: more are cut into several


@dataclass(frozen=True)
class SignaturePlan:
    """What is drawn: strengths (0 is always there), draws of noise, seed, and the conditions beside matched noise.

    `layers` are those that are perturbed (none: all that the site has, but for the last of `resid_post`). At the site
    `resid_post` layer 0 is the embedding; `attn_out` and `mlp_out` are what a part of block l adds.
    """

    strengths: tuple[float, ...] = STRENGTHS
    draws: int = DRAWS
    seed: int = 0
    beside: tuple[str, ...] = BESIDE
    substitution: bool = True
    layers: tuple[int, ...] = ()
    site: str = "resid_post"

    def __post_init__(self) -> None:
        if self.draws < 2 or self.draws % 2:
            raise InputError(f"draws is {self.draws}; wanted an even number from 2 on: halves of them are compared.")
        if any(not 0 <= eps < float("inf") for eps in self.strengths) or not any(self.strengths):
            raise InputError(f"strengths are {self.strengths}; wanted numbers of at least 0, one of them above 0.")
        unknown = [name for name in self.beside if name not in BESIDE]
        if unknown:
            raise InputError(f"conditions {unknown} do not exist; known beside matched noise are {', '.join(BESIDE)}.")

    def of(self, model: Model) -> tuple[int, ...]:
        """The layers of this model that are perturbed.

        Raises InputError for one that it has not, or a site that its family lacks, with what there is.
        """
        if self.site != "resid_post":
            return check_site(model, self.site, tuple(sorted(set(self.layers))) or None)
        last = model.n_layers - 1
        wrong = [layer for layer in self.layers if not 0 <= layer <= last]
        if wrong:
            raise InputError(
                f"layers {wrong} of {model.name} cannot be perturbed: it has 0 (embedding) to {last} below the last."
            )
        return tuple(sorted(set(self.layers))) or tuple(range(model.n_layers))

    @property
    def positive(self) -> tuple[float, ...]:
        """Strengths above 0, rising, each once."""
        return tuple(sorted({float(eps) for eps in self.strengths if eps > 0}))

    @property
    def deciding(self) -> float:
        """The strength at which other conditions are measured and words are given: .1, or the nearest there is."""
        return deciding(self.positive)


def forward(model: Model, ids: Tensor, n_kept: int, *, behind: int = 0, cache: object = None) -> Tensor:
    """Logits [batch, n_kept, rows] of the last positions of one pass, `behind` so many whose states a cache holds."""
    given = {} if cache is None else {str(model.facts.cache): cache}
    inputs = unpadded(model.facts.takes, ids, start=behind, kept=n_kept, use_cache=cache is not None)
    with ByOneDNN():
        out = model.network(**inputs, **given)
    logits = out.logits if hasattr(out, "logits") else out[0]
    return logits[:, -n_kept:, : model.vocab_size]


def identity_gap(model: Model, ids: Tensor | None = None, site: str = "resid_post") -> float:
    """Largest change of a logit by noise of strength 0, at every layer, begun there and from the first block (logits).

    Must be exactly 0: the same shapes run through the same kernels, with an exact zero added. Raises ModelRefused where
    it is not, or is NaN: then no number of a study of this model would mean anything.
    """
    ids = probe_ids(model.network, model.vocab_size, seed=17, batch=4, time=9) if ids is None else ids
    with torch.no_grad(), record(model, clone=True) as taps, forms_of(model.blocks) as forms:
        plain = forward(model, ids, ids.shape[1])
    states, worst = dict(taps.states), 0.0
    draw = torch.Generator().manual_seed(0)
    for layer in range(model.n_layers + 1) if site == "resid_post" else check_site(model, site, None):
        z = torch.randn(states[layer].shape, generator=draw)
        at, first = [_at(site, layer, z, torch.zeros(len(ids)))], _begin(site, layer)
        for begin in {0, first}:
            moved = _begun(model, ids, at, begin, states[begin], forms)
            gap = float((moved.double() - plain.double()).abs().max())
            worst = max(worst, gap if gap == gap else float("inf"))
    if worst > 0:
        raise ModelRefused(
            f"{model.name}: noise of strength 0 moves its logits by {worst:.3g}, so a pass cannot be begun at a layer, "
            "or its hooks are not neutral. No perturbation of it can be judged."
        )
    return worst


def _begun(model: Model, ids: Tensor, at: Sequence[At], layer: int, state: Tensor, forms: Sequence[object]) -> Tensor:
    """Logits of a pass begun at a layer. Raises ModelRefused where later blocks miss more than a state."""
    try:
        with torch.no_grad(), intervening(model, at), begun_at(model, layer, state, forms):
            return forward(model, ids, ids.shape[1])
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        if not layer:
            raise
        raise ModelRefused(
            f"{model.name}: its blocks read more of earlier blocks than their state (a pass begun at layer {layer} "
            f"ends in {type(error).__name__}: {error}), as with keys and values that layers share. Signatures share "
            "the layers below and cannot be measured on it; interventions in `live` and `replay` can."
        ) from error


def _begin(site: str, layer: int) -> int:
    """The layer at which a pass begins that is changed at this place."""
    return layer if site in ("resid_post", "embedding") else layer - 1


def _at(site: str, layer: int, z: Tensor, size: Tensor) -> At:
    """Given noise [row, position, d] times a size [row], at a layer and every position."""

    def change(states: Tensor, where: Where) -> Tensor:
        return inside.add(states, z, size[:, None, None])

    return At("embedding" if site == "resid_post" and layer == 0 else site, (layer,), "all", change)


def signature(
    model: Model,
    transcripts: Transcripts,
    plan: SignaturePlan = SignaturePlan(),  # noqa: B008  frozen
    *,
    progress: Callable[[int, int], None] = lambda i, n: None,
) -> Signature:
    """The signature of a model on what it said: every layer 0..L-1, strength and draw, with every generated step moved.

    Raises ModelRefused where strength 0 is not an exact nothing, InputError for no runs.
    """
    if not len(transcripts):
        raise InputError("no transcripts were given; wanted at least one run.")
    layers, runs = plan.of(model), transcripts.runs
    worst = identity_gap(model, site=plan.site)
    clean = [clean_run(model, t, plan.site, layers) for t in runs]
    made = _empty(model, runs, plan, clean, worst)
    for i, t in enumerate(runs):
        _one_prompt(model, t, i, clean, plan, made)
        progress(i + 1, len(runs))
    return made


@dataclass(frozen=True, eq=False)
class Clean:
    """The unchanged run: states [layer, position, d], those of the site by layer, and the forms of block outputs."""

    states: Tensor
    there: dict[int, Tensor]
    forms: list


def ids_of(model: Model, t: Transcript) -> Tensor:
    """The tokens of a run as one row [1, position], on the model's device."""
    return torch.tensor([t.fed], device=model.device)


def clean_run(model: Model, t: Transcript, site: str = "resid_post", layers: Sequence[int] = ()) -> Clean:
    """One pass over a run as it is, with its states at the site's layers; `resid_post` has all of them."""
    there: dict[int, Tensor] = {}

    def keep(states: Tensor, where: Where) -> Tensor:
        there[where.layer] = states[0].detach().clone()
        return states

    at = [] if site == "resid_post" else [At(site, tuple(layers), "all", keep)]
    with torch.no_grad(), record(model, clone=True) as taps, forms_of(model.blocks) as forms, intervening(model, at):
        forward(model, ids_of(model, t), t.n_generated)
    states = torch.stack([taps.states[layer][0].to(model.device) for layer in taps.layers])
    return Clean(states, there or dict(enumerate(states)), forms)


def _empty(
    model: Model, runs: Sequence[Transcript], plan: SignaturePlan, clean: Sequence[Clean], worst: float
) -> Signature:
    """A signature with its sizes known and its numbers to come."""
    first = [t.n_prompt - 1 for t in runs]
    layers, at = range(model.n_layers + 1), plan.of(model)
    residual = [torch.cat([c.states[layer, k:] for c, k in zip(clean, first, strict=True)]) for layer in layers]
    there = {k: torch.cat([c.there[k][n:] for c, n in zip(clean, first, strict=True)]).float() for k in at}
    n, nothing = len(runs), torch.full((1, 1), torch.nan)
    many = np.array([int(inside.massive(there[k]).any(dim=0).sum()) if k in there else 0 for k in layers])
    beside = [name for name in plan.beside if name != "no massive" or many.any()]
    notes: tuple[str, ...] = (
        () if many.any() or "no massive" not in plan.beside else ("no state has a massive dimension",)
    )
    notes += _massive_anywhere([c.states for c in clean])
    shape = (n, len(at))
    return Signature(
        model=model.name,
        family=model.family,
        n_layers=model.n_layers,
        site=plan.site,
        prompts=tuple(t.prompt_id or f"run {t.run}" for t in runs),
        depth=np.array(at) / model.n_layers,
        strengths=plan.positive,
        deciding=float(plan.deciding),
        log_gain=np.full((*shape, len(plan.positive), 2), np.nan),
        kl=np.full((*shape, len(plan.positive), 2), np.nan),
        through=np.full((*shape, model.n_layers + 1), np.nan),
        layers=at,
        rms=np.array([inside.rms(states.float()) for states in residual]),
        into_rms=np.array([inside.rms(there.get(k, nothing)) for k in layers]),
        rms_without_massive=np.array([inside.rms(there.get(k, nothing), without_massive=True) for k in layers]),
        massive=many,
        identity=worst,
        beside={name: np.full((2, *shape, 2), np.nan) for name in beside},
        substitution=np.full((2, n, 2), np.nan) if plan.substitution else None,
        notes=notes,
    )


def _massive_anywhere(runs: Sequence[Tensor]) -> tuple[str, ...]:
    """One line on massive dimensions by either rule in states [layer, position, d], the prompt's too; none: no line."""
    positions = [p for states in runs for p in range(states.shape[1])]
    found = [
        (layer, one)
        for layer in range(len(runs[0]))
        for one in inside.massive_dimensions(torch.cat([states[layer] for states in runs]))
    ]
    if not found:
        return ()
    layer, most = max(found, key=lambda pair: pair[1].size)
    own, over = (len({k for k, m in found if v(m) > 1000}) for v in (lambda m: m.over_state, lambda m: m.over_tokens))
    return (
        f"with the prompt, layers with a massive dimension: {own} against the median of its own state, {over} against "
        f"that over all tokens; the largest: layer {layer}, position {positions[most.state]}, {most}",
    )


def _one_prompt(
    model: Model, t: Transcript, i: int, clean: Sequence[Clean], plan: SignaturePlan, made: Signature
) -> None:
    """All layers of one prompt."""
    made.counts.clean += 1
    draw = torch.Generator().manual_seed(plan.seed * 1_000_003 + 7919 * i + 1)
    for place, layer in enumerate(made.layers):
        rows = _rows(layer, t, clean[i].there[layer], [c.there[layer] for c in clean], plan=plan, made=made, draw=draw)
        change, kl, between = _run_rows(model, t, clean[i], layer, rows, made)
        _store(made, cell=(i, place), layer=layer, rows=rows, change=change, kl=kl, between=between, plan=plan)
    if made.substitution is not None:
        made.substitution[:, i] = _substituted(model, t, plan, made, draw)


@dataclass(frozen=True, eq=False)
class _Rows:
    """The changed rows of one layer: directions [direction, step, d], and for each row its direction, size and name."""

    z: Tensor
    which: np.ndarray
    size: np.ndarray
    names: list[tuple[str, float]]


def _rows(
    layer: int,
    t: Transcript,
    there: Tensor,
    pool: Sequence[Tensor],
    plan: SignaturePlan,
    made: Signature,
    draw: torch.Generator,
) -> _Rows:
    """Directions and sizes of all conditions at one layer, whose own states are `there`; strengths share draws."""
    n, d, k = t.n_generated, there.shape[-1], plan.draws
    parts, which, size, names = [torch.randn(k, n, d, generator=draw)], list[int](), list[float](), list[Any]()
    rms, at = made.into_rms[layer], plan.deciding
    for eps in plan.positive:
        which += range(k)
        size += [eps * rms] * k
        names += [("matched", eps)] * k
    if "unmatched" in made.beside:
        which += range(k)
        size += [at] * k
        names += [("unmatched", at)] * k
    for name in ("no massive", "difference"):
        if name not in made.beside:
            continue
        here = there[t.n_prompt - 1 :].float().cpu()
        first = sum(map(len, parts))
        if name == "no massive":
            parts.append(parts[0] * ~inside.massive(here).any(dim=0))
            amount = at * made.rms_without_massive[layer]
        else:
            parts.append(_differences(here, pool, k, draw))
            amount = at * rms
        which += range(first, first + k)
        size += [amount] * k
        names += [(name, at)] * k
    return _Rows(torch.cat(parts), np.array(which), np.array(size), names)


def _differences(here: Tensor, pool: Sequence[Tensor], k: int, draw: torch.Generator) -> Tensor:
    """Directions from these states to states of other runs at the same layer, each of RMS 1: [draw, step, d]."""
    out = []
    for _ in range(k):
        one = pool[int(torch.randint(len(pool), (1,), generator=draw))].float().cpu()
        places = torch.randint(len(one), (len(here),), generator=draw)
        step = one[places] - here
        out.append(step / step.square().mean(dim=-1, keepdim=True).sqrt().clamp(min=1e-12))
    return torch.stack(out)


def _run_rows(
    model: Model, t: Transcript, clean: Clean, layer: int, rows: _Rows, made: Signature
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Root mean square change at layer L and KL by row, and the change at every layer from this one: [row, layer].

    Every pass holds one row of strength 0, against which the others are measured.
    """
    n, time, begin = t.n_generated, len(t.fed), _begin(made.site, layer)
    most = max(1, CELLS // max(n * model.vocab_size, time * model.d_model) - 1)
    change, kl, between = [], [], []
    for start in range(0, len(rows.which), most):
        which, size = rows.which[start : start + most], rows.size[start : start + most]
        follow = [i for i, name in enumerate(rows.names[start : start + most]) if name == ("matched", made.deciding)]
        z = rows.z.new_zeros(len(which) + 1, time, model.d_model)
        z[1:, time - n :] = rows.z[which]
        amount = torch.tensor([0.0, *size], dtype=torch.float32)
        ids = ids_of(model, t).expand(len(which) + 1, -1)
        state = clean.states[begin].expand(len(ids), -1, -1)
        layers = range(begin + 1, model.n_layers + 1)
        at = _at(made.site, layer, z.to(model.device), amount.to(model.device))
        with (
            torch.no_grad(),
            record(model, layers) as taps,
            intervening(model, [at], Clock()),
            begun_at(model, begin, state, clean.forms),
        ):
            logits = forward(model, ids, n)
        made.counts.run += len(ids) * (model.n_layers - begin) / model.n_layers
        made.counts.unshared += len(ids)
        change.append(_moved(taps.states[model.n_layers][:, -n:]))
        kl.append(_divergence(logits))
        some = np.full((len(which), model.n_layers + 1), np.nan)
        for other in layers if follow else ():
            chosen = taps.states[other][[0, *(f + 1 for f in follow)], -n:]
            some[follow, other] = _moved(chosen)
        between.append(some)
    return np.concatenate(change), np.concatenate(kl), np.concatenate(between)


def _moved(states: Tensor) -> np.ndarray:
    """Root mean square distance of rows 1.. from row 0, over steps and dimensions: [row - 1]."""
    return (states[1:].float() - states[:1].float()).square().mean(dim=(1, 2)).sqrt().cpu().numpy()


def _divergence(logits: Tensor) -> np.ndarray:
    """KL(p || p') in nats of rows 1.. from row 0, mean over steps, not below 0: [row - 1].

    `ln sum p exp(d) - sum p d` with d = x' - x, a few rows at a time so that they stay in cache: one exponential, and
    small where d is. Where it overflows, from both normalisers.
    """
    own = logits[0].float()
    p, at_own = own.softmax(dim=-1), own.logsumexp(dim=-1)
    out = []
    for some in logits[1:].split(ROWS_AT_ONCE):
        apart = some.float() - own
        mean = torch.linalg.vecdot(p, apart, dim=-1)
        grown = torch.linalg.vecdot(p, apart.exp_(), dim=-1).log()
        if not bool(grown.isfinite().all()):
            grown = some.float().logsumexp(dim=-1) - at_own
        out.append((grown - mean).clamp(min=0).mean(dim=-1))
    return torch.cat(out).cpu().numpy()


def _store(
    made: Signature,
    cell: tuple[int, int],
    layer: int,
    rows: _Rows,
    change: np.ndarray,
    kl: np.ndarray,
    between: np.ndarray,
    plan: SignaturePlan,
) -> None:
    """Means over halves of the draws into the arrays."""
    size_of = rows.z.double().square().mean(dim=(1, 2)).sqrt().numpy()
    into = rows.size * size_of[rows.which]
    last = len(made.rms) - 1
    logs = np.log(gain(change, made.rms[last], into, made.into_rms[layer]))
    half = np.arange(plan.draws) < plan.draws // 2
    for e, eps in enumerate(made.strengths):
        mine = np.array([name == ("matched", eps) for name in rows.names])
        made.log_gain[(*cell, e)] = [logs[mine][half].mean(), logs[mine][~half].mean()]
        made.kl[(*cell, e)] = [kl[mine][half].mean(), kl[mine][~half].mean()]
        if eps == made.deciding:
            for other in range(_begin(made.site, layer) + 1, last + 1):
                made.through[(*cell, other)] = np.mean(
                    np.log(gain(between[mine, other], made.rms[other], into[mine], made.into_rms[layer]))
                )
    for name, (gains, divergences) in made.beside.items():
        mine = np.array([row[0] == name for row in rows.names])
        gains[cell] = [logs[mine][half].mean(), logs[mine][~half].mean()]
        divergences[cell] = [kl[mine][half].mean(), kl[mine][~half].mean()]


def _substituted(
    model: Model, t: Transcript, plan: SignaturePlan, made: Signature, draw: torch.Generator
) -> tuple[list[float], list[float]]:
    """Another token in place of the last of the prompt: ln g(0 -> L) over the steps, and KL, by half of the draws."""
    n = t.n_generated
    ids = ids_of(model, t).repeat(plan.draws + 1, 1)
    other = torch.randint(1, model.vocab_size, (plan.draws,), generator=draw)
    place = t.n_prompt - 1
    ids[1:, place] = (ids[1:, place] + other.to(ids.device)) % model.vocab_size
    with torch.no_grad(), record(model, (0, model.n_layers)) as taps:
        logits = forward(model, ids, n)
    made.counts.run += len(ids)
    made.counts.unshared += len(ids)
    into, out = (_moved(taps.states[layer][:, -n:]) for layer in (0, model.n_layers))
    logs = np.log(gain(out, made.rms[-1], into, made.rms[0]))
    kl, half = _divergence(logits), np.arange(plan.draws) < plan.draws // 2
    return [logs[half].mean(), logs[~half].mean()], [kl[half].mean(), kl[~half].mean()]
