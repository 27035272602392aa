"""nnsight and TransformerLens on the same network as ours: time, and agreement of the numbers.

Run by benchmarks/capture.py in whichever Python has them. Prints one line of JSON; a peer that is not installed gives
null and a note.
"""

import argparse
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))

import capture
import phaselens


def measure_nnsight(quick: bool) -> dict[str, Any]:
    """nnsight saving every layer's state at every step through `iter`, over our live observation of all observables."""
    if importlib.util.find_spec("nnsight") is None:
        return {"nnsight_over_ours": None, "nnsight_note": "nnsight is not installed"}
    import nnsight

    model = capture.llama(8, 256, 8192)
    new = 24 if quick else 64
    given = capture.prompts(4, 16, model.vocab_size)
    wrapped = nnsight.NNsight(model.network)
    ids = torch.tensor(given)
    found: dict[str, Any] = {}

    def theirs() -> None:
        with wrapped.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, do_sample=False, pad_token_id=0
        ) as tracer:
            states = list().save()  # noqa: C408  a list that the tracer keeps
            with tracer.iter[:new]:
                for block in wrapped.model.layers:
                    out = block.output
                    states.append((out[0] if isinstance(out, tuple) else out)[:, -1])
        found["states"] = torch.stack(list(states)).unflatten(0, (new, model.n_layers))

    def ours() -> None:
        phaselens.live(model, given, max_new_tokens=new, sampling=phaselens.GREEDY, lens=None, batch_size=len(given))

    times = capture.alternate({"nnsight": theirs, "ours": ours}, 2 if quick else 5)
    said = phaselens.generate(model, given, max_new_tokens=new, sampling=phaselens.GREEDY)
    kept = phaselens.observe(model, said, lens=None, keep_hidden=True).hidden
    ours_states = torch.from_numpy(np.stack([kept[f"run{i}"][:, 1:] for i in range(len(given))], axis=2))
    gap = (found["states"] - ours_states).norm(dim=-1) / ours_states.norm(dim=-1)
    return {
        "nnsight_over_ours": capture.ratio(times, "nnsight", "ours"),
        "nnsight_largest_relative_difference": float(gap.max()),
        "nnsight_version": nnsight.__version__,
    }


def measure_transformer_lens(quick: bool) -> dict[str, Any]:
    """TransformerLens's logit lens at every layer against ours: largest difference of log probabilities."""
    if importlib.util.find_spec("transformer_lens") is None:
        return {"transformer_lens_note": "TransformerLens is not installed"}
    from transformer_lens import HookedTransformer, HookedTransformerConfig
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=512, n_embd=64, n_layer=4, n_head=4, n_positions=64, activation_function="gelu_new")
    torch.manual_seed(0)
    network = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for p in network.parameters():
            p.mul_(3.0) if p.dim() == 2 else p.add_(0.1 * torch.randn_like(p))
    model = phaselens.load(network)
    from transformer_lens.pretrained.weight_conversions import convert_gpt2_weights

    theirs = HookedTransformer(
        HookedTransformerConfig(
            n_layers=4, d_model=64, n_ctx=64, d_head=16, n_heads=4, d_mlp=256, d_vocab=512, act_fn="gelu_new",
            normalization_type="LN", positional_embedding_type="standard",
        )
    )  # fmt: skip
    theirs.load_state_dict(convert_gpt2_weights(network, theirs.cfg), strict=False)
    ids = torch.tensor(capture.prompts(1, 32, 512))
    with torch.no_grad():
        _, cache = theirs.run_with_cache(ids)
        streams = cache.accumulated_resid(layer=-1, incl_mid=False, apply_ln=False)
        lens = theirs.unembed(theirs.ln_final(streams[:, 0])).log_softmax(-1)
    kept = phaselens.observe(model, [(ids[0, :1].tolist(), [*ids[0, 1:].tolist(), 0])], lens=None, keep_hidden=True)
    states = torch.from_numpy(kept.hidden["run0"]).transpose(0, 1)
    with torch.no_grad():
        ours = model.readout.logits(states).log_softmax(-1)
    gap = (ours - lens).abs().max()
    entropy = phaselens.observe(model, [(ids[0, :1].tolist(), [*ids[0, 1:].tolist(), 0])]).numpy("layers")["entropy"]
    wanted = -(lens.exp() * lens).sum(-1).T.reshape(-1)
    return {
        "transformer_lens_largest_log_p_difference": float(gap),
        "transformer_lens_largest_entropy_difference": float(np.abs(entropy - wanted.numpy()).max()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    print(json.dumps({**measure_nnsight(chosen.quick), **measure_transformer_lens(chosen.quick)}))


if __name__ == "__main__":
    main()
