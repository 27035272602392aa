"""From a model to a table: `python examples/ten_lines.py PATH_OR_HUB_ID`."""

import sys

import phaselens

m = phaselens.load(sys.argv[1])
t = phaselens.generate(m, [[5, 6, 7], [8, 9]], max_new_tokens=72, seed=0)  # or texts, where it has a tokenizer
trace = phaselens.observe(m, t, lens="final_norm")
steps = trace.numpy("steps", ["run", "step", "token", "entropy"])
for run, step, token, entropy in zip(*(steps[c][:5] for c in steps), strict=True):
    print(f"run {run} step {step} token {token} entropy {entropy:.3f} nats")
