"""The tuned lens: known affine maps are found again, no layer ends worse than it began, and L is left alone."""

import math

import pytest
import torch

from phaselens.errors import InputError
from phaselens.observables.translators import (
    HELD_OUT,
    SELECTION,
    Translators,
    fit_translators,
    identity_translators,
    parts_of,
)
from phaselens.types import Readout

WIDTH, VOCAB, ROWS, PROMPTS = 8, 24, 480, 24


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def head(seed: int = 1) -> Readout:
    return Readout(torch.randn(VOCAB, WIDTH, generator=generator(seed)), None, lambda hidden: hidden)


def affine_model(seed: int = 2) -> torch.Tensor:
    """States of three layers: each a fixed affine map of the one below."""
    draws = generator(seed)
    first = torch.randn(ROWS, WIDTH, generator=draws)
    maps = [torch.randn(WIDTH, WIDTH, generator=draws) / math.sqrt(WIDTH) for _ in range(2)]
    second = first @ maps[0].T + 0.5
    return torch.stack([first, second, second @ maps[1].T - 0.3], dim=1)


def prompts() -> torch.Tensor:
    return torch.arange(ROWS) % PROMPTS


@pytest.mark.parametrize("rank", [None, 6])
def test_layers_that_are_affine_maps_of_the_last_one_are_read_again(rank):
    fitted, report = fit_translators(affine_model(), head(), prompts(), rank=rank, steps=300, generator=generator())
    for plain, tuned in zip(report.held_out_plain, report.held_out_tuned, strict=True):
        assert plain > 0.5
        assert tuned < (0.05 if rank is None else 0.6) * plain
    assert (fitted.down is None) == (rank is None)


@pytest.mark.parametrize("steps", [0, 1, 7, 40])
def test_no_layer_does_worse_on_its_objective_than_the_plain_lens(steps):
    states = torch.randn(60, 4, WIDTH, generator=generator(5))
    _, report = fit_translators(states, head(), torch.arange(60) % 5, steps=steps, generator=generator())
    assert all(tuned <= plain + 1e-6 for plain, tuned in zip(report.fit_plain, report.fit_tuned, strict=True))


def test_the_identity_is_the_start_and_layer_l_stays_the_identity():
    states = affine_model()
    same = identity_translators(2, WIDTH)
    assert torch.equal(same(states, (0, 1, 2)), states)
    fitted, _ = fit_translators(states, head(), prompts(), steps=20, generator=generator())
    moved = fitted(states, (0, 1, 2))
    assert torch.equal(moved[:, 2], states[:, 2])
    assert not torch.allclose(moved[:, 0], states[:, 0])
    assert torch.equal(fitted(states[:, [1, 2]], (1, 2)), moved[:, [1, 2]])
    assert torch.equal(fitted(states[:, [2]], (2,)), states[:, [2]])


def test_same_generator_same_bytes_other_generator_other_bytes():
    first, again, other = (
        fit_translators(affine_model(), head(), prompts(), steps=10, generator=generator(s))[0].fingerprint
        for s in (0, 0, 1)
    )
    assert first == again != other


def test_held_out_prompts_are_whole_prompts_and_take_no_part():
    part = parts_of(prompts())
    assert {int(p) % 4 for p in prompts()[part == HELD_OUT]} == {3}
    assert {int(p) % 8 for p in prompts()[part == SELECTION]} == {2}
    states = affine_model()
    changed = torch.where((part == HELD_OUT)[:, None, None], states + 5.0, states)
    a, b = (fit_translators(s, head(), prompts(), steps=10, generator=generator())[0] for s in (states, changed))
    assert a.fingerprint == b.fingerprint


def test_wrong_layers_widths_and_no_states_are_errors():
    fitted = identity_translators(2, WIDTH)
    with pytest.raises(InputError, match="layers 0..2 of width 8"):
        fitted(torch.zeros(1, 1, WIDTH), (3,))
    with pytest.raises(InputError, match="width 9"):
        fitted(torch.zeros(1, 1, 9), (0,))
    with pytest.raises(InputError, match="finite states"):
        fit_translators(torch.full((3, 2, WIDTH), math.nan), head(), torch.arange(3), generator=generator())
    assert isinstance(fitted, Translators)
