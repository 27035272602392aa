"""Watch runs while they generate, and stop each that has frozen at three quarters of the depth.

`python examples/stop_when_frozen.py PATH_OR_HUB_ID`
"""

import sys

import phaselens

m = phaselens.load(sys.argv[1])
layer = round(0.75 * m.n_layers)


def frozen_runs(step, rows):
    """Run numbers whose state moved less than 1e-3 since the step before."""
    layers = rows["layers"]
    at = (layers["layer"] == layer) & (layers["frozen"] == 1)
    return layers["run"][at].tolist()


said, trace = phaselens.live(m, [[5, 6, 7], [8, 9]], max_new_tokens=72, samples=2, lens=None, on_step=frozen_runs)
for t in said:
    print(f"run {t.run}: {t.n_generated} tokens, {t.finish}")
