"""Observe text from elsewhere: JSON Lines of {"prompt_ids", "completion_ids"} or {"prompt", "completion"}.

`python examples/foreign_transcripts.py PATH_OR_HUB_ID FILE.jsonl`
"""

import sys

import numpy as np

import phaselens

m = phaselens.load(sys.argv[1])
trace = phaselens.observe(
    m, sys.argv[2], lens=("final_norm", "raw"), observables=["entropy", "surprisal", "step_length"]
)
layers = trace.numpy("layers")
for layer in np.unique(layers["layer"]):
    at = layers["layer"] == layer
    print(
        f"layer {layer}: entropy {layers['entropy'][at].mean():.3f}, raw {layers['entropy__raw'][at].mean():.3f} nats"
    )
