"""nnsight and TransformerLens on the same network as ours: time, and agreement of the numbers.

Run by benchmarks/capture.py in whichever Python has them. Prints one line of JSON; a peer that is not installed gives
null and a note.
"""

import argparse
import importlib.util
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))

import capture
import phaselens
from phaselens.observables import DEPTH, TRAJECTORY, evaluate


def measure_nnsight(quick: bool) -> dict[str, Any]:
    """nnsight saving every layer at every step through `iter`, and the same observables on them, over our `live`."""
    if importlib.util.find_spec("nnsight") is None:
        return {"nnsight_over_ours": None, "nnsight_note": "nnsight is not installed"}
    import nnsight

    model = capture.llama(8, 256, 8192)
    new = 24 if quick else 64
    given = capture.prompts(4, 16, model.vocab_size)
    wrapped = nnsight.NNsight(model.network)
    ids = torch.tensor(given)
    found: dict[str, Any] = {}
    of_states, numbers = (*TRAJECTORY, *DEPTH), torch.arange(1, model.n_layers + 1)

    def theirs() -> None:
        settings = {"max_new_tokens": new, "do_sample": False, "pad_token_id": 0}
        with wrapped.trace(ids, fn=model.network.generate, attention_mask=torch.ones_like(ids), **settings) as tracer:
            states = nnsight.save([])
            for _ in tracer.iter[:new]:
                for block in wrapped.model.layers:
                    out = block.output
                    states.append((out[0] if isinstance(out, tuple) else out)[:, -1])
        found["states"] = torch.stack(list(states)).unflatten(0, (new, model.n_layers))
        hidden = found["states"].permute(2, 1, 0, 3)
        evaluate(of_states, {"hidden": hidden, "layers": numbers, "n_blocks": model.n_layers})

    def ours() -> None:
        phaselens.live(model, given, max_new_tokens=new, sampling=phaselens.GREEDY, lens=None, batch_size=len(given))

    times = capture.alternate({"nnsight": theirs, "ours": ours}, 3 if quick else 7)
    said = phaselens.generate(model, given, max_new_tokens=new, sampling=phaselens.GREEDY)
    kept = phaselens.observe(model, said, lens=None, keep_hidden=True).hidden
    ours_states = torch.from_numpy(np.stack([kept[f"run{i}"][:, 1:] for i in range(len(given))], axis=2))
    gap = (found["states"] - ours_states).norm(dim=-1) / ours_states.norm(dim=-1)
    return {
        "nnsight_over_ours": capture.ratio(times, "nnsight", "ours"),
        "nnsight_over_ours_cpu": capture.ratio(times, "nnsight", "ours", "_cpu"),
        "nnsight_largest_relative_difference": float(gap.max()),
        "nnsight_version": nnsight.__version__,
    }


def measure_transformer_lens(quick: bool) -> dict[str, Any]:
    """TransformerLens's logit lens at every layer against ours: largest difference of log probabilities."""
    if importlib.util.find_spec("transformer_lens") is None:
        return {"transformer_lens_note": "TransformerLens is not installed"}
    from tokenizers import Tokenizer, models
    from transformer_lens.model_bridge import TransformerBridge
    from transformer_lens.tools.analysis.logit_lens import logit_lens
    from transformers import PreTrainedTokenizerFast

    model = capture.llama(8, 256, 8192)
    ids = torch.tensor(capture.prompts(1, 24, 8192))
    # Ours first: the bridge rebuilds the network that it is given.
    trace = phaselens.observe(model, [(ids[0, :1].tolist(), [*ids[0, 1:].tolist(), 0])], keep_hidden=True)
    with torch.no_grad():
        states = torch.from_numpy(trace.hidden["run0"]).transpose(0, 1)
        ours = model.readout.logits(states).log_softmax(-1)
    # It insists on a tokenizer; the ids below never pass through it.
    words = models.WordLevel({f"w{i}": i for i in range(model.vocab_size)}, unk_token="w0")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(words), bos_token="w1", eos_token="w2", unk_token="w0"
    )
    with tempfile.TemporaryDirectory() as folder:
        model.network.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        theirs = TransformerBridge.boot_transformers(folder, hf_model=model.network, device="cpu")
        lens = logit_lens(theirs, ids, positions=None).values.detach()[:, 0].log_softmax(-1)
    entropy = -(lens.exp() * lens).sum(-1).T.reshape(-1).numpy()
    return {
        "transformer_lens_largest_log_p_difference": float((ours - lens).abs().max()),
        "transformer_lens_largest_entropy_difference": float(np.abs(trace.numpy("layers")["entropy"] - entropy).max()),
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
