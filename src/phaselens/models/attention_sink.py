"""Forward passes in which no position but itself attends to position 0 (the attention sink), where a family allows it.

The mask is the network's own causal one with its first column closed, given as the library takes it: a float tensor
[batch, 1, query, key], or one for each kind of layer. Whether a network obeys is not guessed at but proved, by what
must follow: later logits no longer depend on the first token.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from phaselens.errors import InputError
from phaselens.models.compare_tensors import gap
from phaselens.models.discover import probe_ids
from phaselens.models.facts import declared_window, text_config
from phaselens.models.forward import run
from phaselens.models.hooks import reword
from phaselens.models.model import Model

PROBE = 12
FORMS = ("tensor", "by kind of layer")


@contextmanager
def first_masked(model: Model, *, form: str | None = None, closed: bool = True) -> Iterator[None]:
    """No position attends to position 0 but position 0 itself, in every forward pass inside the `with` block.

    Passes need an attention mask of ones (no padding on the left) and may be in pieces with the cache. Without
    `closed` the mask given is the network's own causal one, and nothing should change. Raises InputError where the
    family is not proved to obey (`why_not_masked` says why).
    """
    if form is None:
        form, why = _form(model)
        if form is None:
            raise InputError(f"{model.name} ({model.family}): attention to position 0 cannot be masked: {why}.")

    def change(given: dict[str, object]) -> dict[str, object]:
        ones, ids = given.get("attention_mask"), given["input_ids"]
        if not isinstance(ones, Tensor) or ones.dim() != 2 or not isinstance(ids, Tensor):
            return given
        return {**given, "attention_mask": _mask(model, ones.shape[0], ids.shape[1], ones.shape[1], form, closed)}

    with reword(model.network, change):
        yield


def why_not_masked(model: Model) -> str:
    """Why attention to position 0 cannot be masked in this network; "" where it can, proved on a few random tokens."""
    return _form(model)[1]


def _form(model: Model) -> tuple[str | None, str]:
    """The form of mask that the network obeys, or None and what went wrong with the last one tried."""
    if "attention_mask" not in model.facts.takes:
        return None, "its forward takes no attention mask"
    window = declared_window(model.network.config)
    time = min(PROBE + (window or 0) if (window or 0) <= 64 else PROBE, model.context or PROBE)
    ids = probe_ids(model.network, model.vocab_size, seed=11, time=time)
    why = ""
    forms = FORMS if not _kinds(model) else FORMS[::-1] if len(_kinds(model)) == 1 else FORMS[1:]
    for form in forms:
        why = _trial(model, ids, form)
        if not why:
            return form, ""
    return None, why


def _trial(model: Model, ids: Tensor, form: str) -> str:
    """What is wrong with one form, "" if nothing: the open mask changes nothing, the closed one hides token 0 alone."""
    other = ids.clone()
    other[:, 0] = (ids[:, 0] + 1) % model.vocab_size
    try:
        plain, moved = _logits(model, ids), _logits(model, other)
        with first_masked(model, form=form, closed=False):
            opened = _logits(model, ids)
        with first_masked(model, form=form):
            shut, shut_moved = _logits(model, ids), _logits(model, other)
            last = ids.clone()
            last[:, 1] = (ids[:, 1] + 1) % model.vocab_size
            seen = _logits(model, last)
    except Exception as error:  # whatever a family says to a mask that it does not take
        said = (str(error).splitlines() or [""])[0][:100]
        return f"its forward does not take a mask of four dimensions ({type(error).__name__}: {said})"
    tol = 1e-4 if model.dtype in (torch.float32, torch.float64) else 3e-2
    if not gap(opened, plain) <= tol:
        return "its own causal mask, given in four dimensions, changes its logits"
    if not gap(shut_moved[:, 1:], shut[:, 1:]) <= tol:
        return "later logits still depend on the first token"
    if gap(moved[:, 1:], plain[:, 1:]) <= tol:
        return "later logits do not depend on the first token in the first place"
    return "" if gap(seen[:, 2:], shut[:, 2:]) > 0 else "the mask hides other tokens too"


def _logits(model: Model, ids: Tensor) -> Tensor:
    return run(model.network, ids, mask=torch.ones_like(ids)).logits.float()


def _kinds(model: Model) -> tuple[str, ...]:
    """Kinds of attention layers that the configuration names, sorted; () where it names none."""
    named = getattr(text_config(model.network.config), "layer_types", None) or ()
    return tuple(sorted(set(named)))


def _mask(model: Model, n_runs: int, n_new: int, n_all: int, form: str, closed: bool) -> Tensor | dict[str, Tensor]:
    """The causal mask of `n_new` positions behind `n_all - n_new` others, position 0 closed to all but itself."""
    query = torch.arange(n_all - n_new, n_all, device=model.device).unsqueeze(1)
    key = torch.arange(n_all, device=model.device).unsqueeze(0)
    allowed = key <= query
    if closed:
        allowed = allowed & ((key > 0) | (query == 0))
    window = declared_window(model.network.config)
    near = allowed if window is None else allowed & (query - key < window)
    if form == "tensor":
        return _additive(near if _kinds(model) != ("full_attention",) else allowed, n_runs, model.dtype)
    return {
        kind: _additive(near if kind == "sliding_attention" else allowed, n_runs, model.dtype)
        for kind in _kinds(model) or ("full_attention", "sliding_attention")
    }


def _additive(allowed: Tensor, n_runs: int, dtype: torch.dtype) -> Tensor:
    closed = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
    return closed.masked_fill(~allowed, torch.finfo(dtype).min).expand(n_runs, 1, *allowed.shape)
