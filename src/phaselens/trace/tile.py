"""What capture hands to the reducer: the residual states of some runs at some positions, with their labels."""

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int64
from torch import Tensor


@dataclass(frozen=True)
class Tile:
    """Residual states [run, layer, position, d_model] (float32) of R runs at S positions, labelled.

    Step s of a run with a prompt of P tokens is the state at position P - 1 + s, from which its token s was chosen. A
    run with n generated tokens has steps 0..n-1; only positions where `valid` holds are steps, the others carry no
    meaning. `position` is absolute, from 0, without padding. `token` is the one emitted at the step (-1 where not
    valid). `layers` names the second axis of `hidden`: 0 is the embedding, L the last block before the final norm.
    Tiles of one batch follow each other along positions; another set of runs begins a new batch. `logits` are those
    that the network itself put out there, where they are at hand: the output is then read from them and not anew.
    """

    run: Int64[Tensor, " run"]
    step: Int64[Tensor, "run position"]
    position: Int64[Tensor, "run position"]
    token: Int64[Tensor, "run position"]
    valid: Bool[Tensor, "run position"]
    layers: tuple[int, ...]
    hidden: Float[Tensor, "run layer position d_model"]
    logits: Float[Tensor, "run position vocab"] | None = None
