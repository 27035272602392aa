"""The record of a loaded model, and of the proof that its states are read right."""

import platform
from dataclasses import dataclass
from html import escape

import torch
import transformers
from torch import nn
from transformers import PreTrainedTokenizerBase

from phaselens.models.facts import Facts, Network, Proved
from phaselens.signs import visible
from phaselens.types import Readout


@dataclass(frozen=True)
class Row:
    """One thing tried: its `value` against `tolerance`; `needed` rows refuse the model when they fail."""

    name: str
    passed: bool
    value: float
    tolerance: float
    detail: str
    needed: bool = True


@dataclass(frozen=True)
class Proof:
    """The outcome of every check of one model; `facts` holds what the informative rows found."""

    rows: tuple[Row, ...]
    facts: Proved

    @property
    def passed(self) -> bool:
        """Whether every needed row passed."""
        return all(row.passed for row in self.rows if row.needed)

    @property
    def reason(self) -> str:
        """The needed rows that failed, as one text; empty where all passed."""
        bad = [row for row in self.rows if row.needed and not row.passed]
        return " ".join(f"{r.name} failed: {r.detail} (got {r.value:.3g}, wanted <= {r.tolerance:.3g})." for r in bad)

    def to_dict(self) -> dict[str, object]:
        """The same as plain JSON values."""
        return {"passed": self.passed, "rows": [vars(row) for row in self.rows], "facts": dict(self.facts)}


@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """A language model whose residual states and logits can be read.

    `vocab_size` counts rows that are real tokens; `context` is in tokens, None for no limit; `fingerprint` is the
    sha256 of configuration, weights as loaded, and tokenizer; `block_path` says where the `blocks` stand in
    `network`; `proof` is None when the check was left out; `weights` says what became of the file's tensors, None for
    a network that was given live or drawn anew; `origin` what they were where they were quantised, else None.
    """

    network: Network
    tokenizer: PreTrainedTokenizerBase | None
    name: str
    family: str
    fingerprint: str
    n_layers: int
    d_model: int
    vocab_size: int
    context: int | None
    eos_ids: tuple[int, ...]
    pad_id: int
    blocks: tuple[nn.Module, ...]
    block_path: str
    facts: Facts
    readout: Readout
    proof: Proof | None
    device: torch.device
    dtype: torch.dtype
    source: str
    revision: str | None
    weights: str | None = None
    origin: str | None = None

    def __repr__(self) -> str:
        kind = str(self.dtype).removeprefix("torch.")
        return (
            f"Model({self.name}: {self.family}, {self.n_layers} layers, width {self.d_model}, "
            f"{self.vocab_size} tokens, {kind} on {self.device}, {'proved' if self.proof else 'not proved'})"
        )

    def _repr_html_(self) -> str:
        return f"<code>{escape(visible(repr(self)))}</code>"

    def to_dict(self) -> dict[str, object]:
        """Provenance for manifests, as plain JSON values: which weights, revision, dtype, kernel and versions."""
        plain = "name family fingerprint source revision n_layers d_model vocab_size context".split()
        return {
            **{name: getattr(self, name) for name in plain},
            "eos_ids": list(self.eos_ids),
            "weights": self.weights,
            "origin": self.origin,
            "parameters": sum(p.numel() for p in self.network.parameters()),
            "tokenizer": None if self.tokenizer is None else type(self.tokenizer).__name__,
            "device": str(self.device),
            "dtype": str(self.dtype).removeprefix("torch."),
            "attention": getattr(self.network.config, "_attn_implementation", None),
            "block_path": self.block_path,
            "facts": self.facts.to_dict(),
            "proved": None if self.proof is None else self.proof.passed,
            "versions": {
                "python": platform.python_version(),
                "torch": torch.__version__,
                "transformers": transformers.__version__,
            },
        }
