"""While a network runs: its own logits beside the lens at the last layer, on a few columns, so at nearly no cost."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from phaselens.errors import ModelRefused
from phaselens.models.compare_tensors import gap
from phaselens.models.hooks import Answers, Taps, answers, record
from phaselens.models.model import Model
from phaselens.models.narrow_head import spread_columns
from phaselens.models.proof import TOLERANCE

SLACK = 2.0  # real text has larger states than the proof's random ids


class Guard:
    """Compares the logits of the last position of a pass with the lens at layer L, where the proof did not look.

    On 256 columns spread over the vocabulary and the highest and lowest logit of every run, where a clamp shows.
    """

    def __init__(self, model: Model, answered: Answers, taps: Taps) -> None:
        self.model, self.answered, self.taps = model, answered, taps
        self.rows = spread_columns(model.vocab_size, model.device)
        self.few = model.readout.restrict(self.rows)
        self.tolerance = SLACK * TOLERANCE.get(model.dtype, 1e-4)

    def check(self, runs: Sequence[int], position: int) -> None:
        """See that the pass that just ended agrees at its last `position`; `runs` names its rows.

        Raises ModelRefused, with both numbers, where the lens is not what the network says.
        """
        own = self.answered.logits[:, : self.model.vocab_size].float()
        ends = torch.cat([own.nan_to_num().argmax(-1), own.nan_to_num().argmin(-1)])
        state, rows = self.taps.states[self.model.n_layers][:, -1], torch.cat([self.rows, ends])
        lens = torch.cat([self.few.logits(state), self.model.readout.restrict(ends).logits(state)], dim=-1)
        own = own[:, rows]
        if gap(lens, own) <= self.tolerance:
            return
        apart = (lens - own).abs().nan_to_num(torch.inf, torch.inf)
        run, column = divmod(int(apart.argmax()), apart.shape[1])
        raise ModelRefused(
            f"{self.model.name}: run {runs[run]}, position {position}: the network's own logit of token "
            f"{int(rows[column])} is {float(own[run, column]):.6g}, the lens at the last layer gives "
            f"{float(lens[run, column]):.6g} (within {self.tolerance:g} wanted). The proof at load did not meet this: "
            "something after the last block depends on the position or the text (a temperature, a clamp), so no lens "
            "of one state is this model. Take it out of the network's forward."
        )


@contextmanager
def guarded(model: Model) -> Iterator[Guard]:
    """A guard over every pass of `model` inside the `with` block; one position's state and logits are kept."""
    with record(model, (model.n_layers,), last_only=True) as taps, answers(model.network) as answered:
        yield Guard(model, answered, taps)
