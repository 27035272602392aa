"""What holds of organisms holds of real language models: values against transformers in float64, text, lengths.

SmolLM2-135M-Instruct, and Gemma-3-270M where it is here too; both dequantised from GGUF files by `make real`.
"""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

import phaselens
from phaselens.capture import Sampling
from phaselens.models import encoder, load, record, run

pytestmark = [pytest.mark.real, pytest.mark.slow]
TEXT = "The river rises in the mountains and flows through three countries before it reaches the sea. Its name"
GREEDY = Sampling(temperature=0.0, suppress_eos=False)


@pytest.fixture(scope="module", params=["smollm2", "gemma3"])
def m(request):
    return request.getfixturevalue(f"{request.param}_model")


def ids_of(m, text=TEXT):
    return m.tokenizer(text)["input_ids"]


def test_the_proof_passes_and_every_tensor_is_the_files(m):
    assert m.proof.passed and all(row.passed for row in m.proof.rows)
    assert m.weights.endswith("none missing, none left over") and m.facts.switch is None
    assert m.facts.pads_left and m.facts.chunks and m.facts.decodes


def test_states_and_lens_are_those_of_transformers_in_float64(m):
    """At five layers: states by their own size, entropy and KL to the output in nats."""
    network = AutoModelForCausalLM.from_pretrained(m.network.config.name_or_path, dtype=torch.float64).eval()
    ids = torch.tensor([ids_of(m)])
    states = []
    handles = [b.register_forward_hook(lambda b, a, out: states.append(out)) for b in network.model.layers]
    handles.append(network.model.layers[0].register_forward_pre_hook(lambda b, a: states.append(a[0])))
    with torch.no_grad():
        logits = network(ids).logits[0]
    for handle in handles:
        handle.remove()
    said = [(ids[0, :6].tolist(), ids[0, 6:].tolist())]
    trace = phaselens.observe(m, said, observables=["entropy", "kl_to_final", "surprisal"])
    layers, steps = trace.to_pandas("layers"), trace.to_pandas("steps").sort_values("step")
    own = -logits.log_softmax(-1)[5:-1].gather(1, ids[0, 6:, None])[:, 0].numpy()
    assert np.abs(steps.surprisal.to_numpy() - own).max() < 1e-4
    with record(m) as taps:
        run(m.network, ids)
    for layer in (0, m.n_layers // 4, m.n_layers // 2, 3 * m.n_layers // 4, m.n_layers):
        state = states[layer] if isinstance(states[layer], torch.Tensor) else states[layer][0]
        size = state.pow(2).mean(-1, keepdim=True).sqrt()
        assert float(((taps.states[layer] - state) / size).abs().max()) < 1e-4
        with torch.no_grad():
            lens = network.lm_head(network.model.norm(state[0, 5:-1])).log_softmax(-1)
        last = logits[5:-1].log_softmax(-1)
        ours = layers[layers.layer == layer].sort_values("step")
        entropy, apart = -(lens.exp() * lens).sum(-1).numpy(), (last.exp() * (last - lens)).sum(-1).numpy()
        assert np.abs(ours.entropy.to_numpy() - entropy).max() < 1e-4
        assert np.abs(ours.kl_to_final.to_numpy() - apart).max() < 1e-3


def test_greedy_text_is_the_librarys(m):
    ids = torch.tensor([ids_of(m)])
    with torch.no_grad():
        theirs = m.network.generate(ids, do_sample=False, max_new_tokens=12, attention_mask=torch.ones_like(ids))
    ours = phaselens.generate(m, [ids[0].tolist()], max_new_tokens=12, sampling=GREEDY).runs[0]
    assert list(ours.completion_ids) == theirs[0, ids.shape[1] :].tolist()
    assert ours.completion == m.tokenizer.decode(theirs[0, ids.shape[1] :], skip_special_tokens=True)


def test_a_run_in_a_batch_of_unlike_lengths_is_the_run_alone(m):
    prompts = [ids_of(m, text) for text in ("Water", TEXT, "Two and two make", TEXT + " was given by those who")]
    together = phaselens.generate(m, prompts, max_new_tokens=8, sampling=GREEDY)
    measured = phaselens.observe(m, together, observables=["entropy"]).to_pandas("layers")
    for i, prompt in enumerate(prompts):
        alone = phaselens.generate(m, [prompt], max_new_tokens=8, sampling=GREEDY)
        assert alone.runs[0].completion_ids == together.runs[i].completion_ids
        own = phaselens.observe(m, alone, observables=["entropy"]).to_pandas("layers").entropy.to_numpy()
        assert np.abs(own - measured[measured.run == i].entropy.to_numpy()).max() < 2e-3


def test_text_in_chinese_and_emoji_comes_out_as_it_went_in(m, tmp_path):
    text = "今天天气很好，我们去公园。🙂🚀 Ça va ?"
    said = phaselens.generate(m, [text], max_new_tokens=4, sampling=GREEDY)
    assert m.tokenizer.decode(list(said.runs[0].prompt_ids), skip_special_tokens=True) == text
    said.write_jsonl(tmp_path / "said.jsonl")
    again = phaselens.read_jsonl(tmp_path / "said.jsonl")
    assert again.runs[0].prompt == text and again.runs[0].completion_ids == said.runs[0].completion_ids
    steps = phaselens.observe(m, again, observables=["surprisal"]).to_pandas("steps")
    assert len(steps) == 4 and steps.surprisal.notna().all()


def test_chat_is_the_librarys_own_template(smollm2_model):
    turns = [("system", "You are brief."), ("user", "Name a river."), ("assistant", "The Po."), ("user", "Another.")]
    messages = [{"role": role, "content": text} for role, text in turns]
    theirs = smollm2_model.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)
    assert list(encoder(smollm2_model).chat(turns)) == list(theirs["input_ids"])


def test_prompts_longer_than_the_window_of_gemma(gemma3_model):
    window = gemma3_model.network.config.get_text_config().sliding_window
    ids = (ids_of(gemma3_model) + ids_of(gemma3_model, " ".join([TEXT] * 40)))[: window + 40]
    said = [(ids[:-6], ids[-6:])]
    with torch.no_grad():
        log_p = gemma3_model.network(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    own = [-float(log_p[len(ids) - 7 + i, token]) for i, token in enumerate(ids[-6:])]
    for chunk in (100, 4096):
        trace = phaselens.observe(gemma3_model, said, chunk=chunk, observables=["surprisal"])
        ours = trace.to_pandas("steps").sort_values("step").surprisal.to_numpy()
        assert len(ids) > window and np.abs(ours - own).max() < 1e-3


def test_bfloat16_stays_within_its_noise_floor(smollm2_model, smollm2):
    """Entropy at every layer: the median is off by less than .02 nats, nothing by more than 1."""
    half = load(smollm2, dtype="bfloat16")
    ids = ids_of(smollm2_model)
    said = [(ids[:4], ids[4:])]
    full, low = (
        phaselens.observe(model, said, observables=["entropy"]).to_pandas("layers").entropy.to_numpy()
        for model in (smollm2_model, half)
    )
    off = np.abs(full - low)
    assert 0 < np.median(off) < 0.02 and off.max() < 1.0


def test_the_gguf_file_is_the_folder_that_was_made_of_it(smollm2, smollm2_model):
    file = next((p / "smollm2.gguf" for p in smollm2.parents if (p / "smollm2.gguf").is_file()), None)
    if file is None:
        pytest.skip("real: no smollm2.gguf beside the folder")
    pytest.importorskip("gguf", reason="the extra gguf is not installed")
    model = load(file)
    assert model.fingerprint == smollm2_model.fingerprint and model.origin == "weights dequantised from Q4_1 (GGUF)"
    ids = torch.tensor([ids_of(smollm2_model)])
    assert torch.equal(run(model.network, ids).logits, run(smollm2_model.network, ids).logits)
