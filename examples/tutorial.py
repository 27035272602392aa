"""Ten lines from a bundled model to a table: `python examples/tutorial.py`."""

import sys

import numpy as np

import phaselens

# %% A model. `load` proves that states and logits are read right before anything is measured.
model = phaselens.load(sys.argv[1] if len(sys.argv) > 1 else "organism:llama-512")
print(model)

# %% Some text, from text prompts where there is a tokenizer. Same seed, same bytes.
prompts = ["Q: Where does Ada live?\nA:", "3 + 4 ="] if model.tokenizer else [[5, 6, 7], [8, 9]]
said = phaselens.generate(model, prompts, max_new_tokens=24, seed=0)
for run in said:
    print(run.run, repr(run.completion) if run.completion else run.completion_ids)

# %% One teacher-forced pass: every observable at every step and layer.
trace = phaselens.observe(model, said, lens="final_norm")
layers = trace.numpy("layers", ["layer", "instability", "entropy"])

# %% The middle of each layer.
for layer in np.unique(layers["layer"]):
    at = layers["layer"] == layer
    turn, entropy = (np.nanmedian(layers[name][at]) for name in ("instability", "entropy"))
    print(f"layer {layer}: turns by {turn:.2f} rad a step, entropy {entropy:.2f} nats")
