"""Changes to hidden states, labels and order, used as controls on the record. Pure functions; a draw takes a generator.

Every perturbation of hidden states has one signature: `(hidden [example, d], generator, *, labels, blocks)`. `labels`
and `blocks` are int [example] or None and are read only by those that need them.
"""

from phaselens.perturbations.hidden import (
    gaussian_by_class,
    gaussian_pooled,
    identity,
    noise,
    noise_per_feature,
    rotate,
)
from phaselens.perturbations.label_changes import control_labels, permute_labels
from phaselens.perturbations.order import (
    permute_examples,
    permute_features,
    permute_features_per_example,
    sort_features,
)
