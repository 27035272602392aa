"""One call, one folder: what `phaselens.probe`, `phaselens.perturb` and the commands do from model to page."""
