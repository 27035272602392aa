"""Load a model, find where its residual states are, and prove it.

`load` gives a `Model`; `record` and `edit` read and replace residual states; `prove` is what a load must pass.
"""

from phaselens.models.facts import Facts
from phaselens.models.forward import Pass, positions_of, run
from phaselens.models.hooks import Taps, edit, record
from phaselens.models.lens_guard import Guard, guarded
from phaselens.models.load import fingerprint, load, require_tokenizer, untrained_twin
from phaselens.models.model import Model, Proof, Row
from phaselens.models.proof import prove
from phaselens.models.token_ids import Encoder, encoder, template_hash
