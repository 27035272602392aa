import numpy as np
import pytest
import torch

from phaselens.capture import GREEDY, Sampling
from phaselens.capture.sampling import LEAST_TEMPERATURE, choose, uniforms
from phaselens.errors import InputError


def frequencies(logits, sampling, n=20000):
    u = torch.from_numpy(np.random.default_rng(0).random(n))
    return torch.bincount(choose(logits.expand(n, -1).clone(), u, sampling), minlength=logits.shape[-1]) / n


def test_draws_follow_the_distribution():
    logits = torch.tensor([[1.0, 0.0, -1.0, 2.0]])
    for temperature in (0.5, 1.0, 2.0):
        wanted = (logits / temperature).softmax(-1)[0]
        assert torch.allclose(frequencies(logits, Sampling(temperature)), wanted, atol=0.012)


def test_inverse_of_the_distribution_function_at_its_steps():
    logits = torch.tensor([0.25, 0.5, 0.25]).log().expand(5, -1)
    u = torch.tensor([0.0, 0.2499, 0.2501, 0.7499, 0.9999999], dtype=torch.float64)
    assert choose(logits, u, Sampling(1.0)).tolist() == [0, 0, 1, 1, 2]


def test_top_k_and_top_p_keep_the_likeliest():
    logits = torch.tensor([[0.1, 0.4, 0.3, 0.2]]).log()
    of_two = frequencies(logits, Sampling(1.0, top_k=2))
    assert of_two[[0, 3]].sum() == 0 and abs(float(of_two[1]) - 4 / 7) < 0.012
    assert torch.equal(frequencies(logits, Sampling(1.0, top_p=0.69)), of_two)
    assert frequencies(logits, Sampling(1.0, top_p=0.05))[1] == 1
    assert torch.allclose(frequencies(logits, Sampling(1.0, top_k=100)), logits.softmax(-1)[0], atol=0.012)


def test_a_token_of_probability_zero_is_never_drawn():
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf]])
    assert set(choose(logits.expand(4, -1), torch.tensor([0.0, 0.49, 0.51, 1 - 1e-16]), Sampling(1.0)).tolist()) <= {
        1,
        3,
    }


def test_greedy_takes_the_likeliest_and_ignores_top_p():
    logits = torch.tensor([[0.0, 3.0, 1.0]])
    assert choose(logits, torch.tensor([0.99]), Sampling(0.0, top_p=0.1)).tolist() == [1]


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_logits_that_are_not_finite_are_an_error(bad):
    fine, u = torch.zeros(2, 5), torch.tensor([0.1, 0.9])
    fine[:, 0] = -torch.inf  # a token that is ruled out is no mistake
    broken = fine.clone()
    broken[1, 3] = bad
    for sampling in (GREEDY, Sampling(1.0), Sampling(1.0, top_p=0.5, top_k=2), Sampling(LEAST_TEMPERATURE)):
        assert all(0 < t < 5 for t in choose(fine.clone(), u, sampling).tolist())
        with pytest.raises(InputError, match="NaN or infinity"):
            choose(broken.clone(), u, sampling)
    with pytest.raises(InputError, match="NaN or infinity"):
        choose(torch.full((1, 5), -torch.inf), u[:1], GREEDY)


def test_the_least_temperature_is_greedy_and_less_is_refused():
    logits = torch.tensor([[80.0, 79.999, 3.0]])
    assert choose(logits, torch.tensor([0.999]), Sampling(LEAST_TEMPERATURE)).tolist() == [0]
    for t in (1e-7, 1e-40, 5e-324):
        with pytest.raises(InputError, match="give 0"):
            Sampling(t)


def test_uniforms_belong_to_seed_prompt_and_sample():
    one = uniforms(0, (1, 2, 3), 0, 50)
    assert np.array_equal(one, uniforms(0, (1, 2, 3), 0, 50))
    assert np.array_equal(one[:20], uniforms(0, (1, 2, 3), 0, 20))
    for other in ((1, (1, 2, 3), 0), (0, (1, 2, 4), 0), (0, (1, 2, 3), 1), (0, (12, 3), 0)):
        assert not np.array_equal(one, uniforms(*other, 50))
    many = np.concatenate([uniforms(0, (i,), 0, 100) for i in range(100)])
    assert abs(many.mean() - 0.5) < 0.01 and 0 <= many.min() and many.max() < 1


def test_arm_names():
    assert GREEDY.arm == "greedy"
    assert Sampling().arm == "t0.7"
    assert Sampling(1.0, top_p=0.9, top_k=40, suppress_eos=False).arm == "t1-p0.9-k40-eos"


@pytest.mark.parametrize(
    "wrong", [{"temperature": -1}, {"temperature": float("nan")}, {"top_p": 0}, {"top_p": 1.1}, {"top_k": -1}]
)
def test_settings_that_make_no_distribution_are_refused(wrong):
    with pytest.raises(InputError, match="give"):
        Sampling(**wrong)
