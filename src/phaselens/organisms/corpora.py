"""Documents of the world, the tokenizers trained on them, and the rows that a training run sees.

A document is a header, which says its kind, and items of that kind until it is long enough; then a real end of text.
Header, items and end are each a `Piece` with its category and the log-probability of the choices behind it, so the
true entropy of any set of complete pieces is minus the sum of `logp`, over whatever number of tokens they have.
"""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from phaselens.organisms.items import (
    KEYS,
    Draw,
    open_story,
    write_brackets,
    write_code,
    write_count,
    write_fact,
    write_homonym,
    write_law,
    write_quiz,
    write_record,
    write_story,
    write_sum,
)
from phaselens.organisms.world import RELATIONS, World

# header -> (share of the documents, category of its items, writer of one item; None where items hang together)
KINDS: dict[str, tuple[float, str, Callable[[World, Draw], str] | None]] = {
    "Notes": (0.10, "factual", write_fact),
    "Quiz": (0.09, "factual", write_quiz),
    "Sums": (0.18, "arithmetic", write_sum),
    "Laws": (0.10, "science", write_law),
    "Story": (0.17, "story", None),
    "Records": (0.05, "format", None),
    "Count": (0.09, "format", write_count),
    "Brackets": (0.07, "format", write_brackets),
    "Code": (0.06, "format", write_code),
    "Words": (0.09, "ambiguous", write_homonym),
}
CATEGORIES = ("factual", "arithmetic", "science", "story", "format", "ambiguous")
CONTEXT = 256
NEW_STORY, STOP = 0.1, 0.3
LEAST, MOST = 130, 150
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
PAD, BOS, EOS, UNK = range(4)
IGNORE = -100

_UNIT = re.compile(r"[A-Za-z]+|\d|[^\w\s]|\n")
_WORDINGS = {
    relation: re.compile(
        "|".join(
            re.escape(wording).replace(r"\{e\}", "([A-Z][a-z]+)").replace(r"\{v\}", "([A-Za-z]+)")
            for wording in (*(f"- {statement}" for statement in statements), f"Q: {question} A: {{v}}.")
        )
    )
    for relation, (_, statements, question) in RELATIONS.items()
}
_KIND_CUMULATIVE = np.cumsum([share for share, _, _ in KINDS.values()])


@dataclass(frozen=True)
class Piece:
    """A header, an item or the end of a document: text, category and log-probability (nats) of its choices."""

    text: str
    category: str
    logp: float


@dataclass(frozen=True)
class Document:
    """A document; the text of its pieces joined is its text, and the last piece (empty text) is the end of text."""

    kind: str
    pieces: tuple[Piece, ...]

    @property
    def text(self) -> str:
        """The whole text, without special tokens."""
        return "".join(piece.text for piece in self.pieces)

    @property
    def logp(self) -> float:
        """Log-probability of the document in nats."""
        return math.fsum(piece.logp for piece in self.pieces)


def _items(world: World, kind: str, draw: Draw) -> Iterator[str]:
    """Items of a document of this kind, without end."""
    _, _, write = KINDS[kind]
    if write is not None:
        while True:
            yield write(world, draw)
    if kind == "Records":
        keys = list(KEYS)
        order = [keys.pop(draw.index(len(keys))) for _ in range(3)]
        while True:
            yield write_record(world, draw, order)
    text, about = open_story(draw)
    while True:
        yield text
        if draw.chance(NEW_STORY):
            text, about = open_story(draw)
            text = "\n" + text
        else:
            text = write_story(draw, about)


def write_document(world: World, rng: np.random.Generator) -> Document:
    """One document: a kind, then items until `LEAST` words and signs; from there it may end, by `MOST` it must."""
    draw = Draw(rng)
    kind = tuple(KINDS)[draw.weighted(_KIND_CUMULATIVE)]
    pieces, units, spent = [Piece(kind + "\n", "header", draw.logp)], 0, draw.logp
    for text in _items(world, kind, draw):
        pieces.append(Piece(text, KINDS[kind][1], draw.logp - spent))
        units, spent = units + len(_UNIT.findall(text)), draw.logp
        if units >= MOST or (units >= LEAST and draw.chance(STOP)):
            break
    pieces.append(Piece("", "end", draw.logp - spent))
    return Document(kind, tuple(pieces))


def documents(world: World, seed: int, n: int) -> Iterator[Document]:
    """`n` documents; same world and seed, same documents."""
    rng = np.random.default_rng([world.seed, 2, seed])
    for _ in range(n):
        yield write_document(world, rng)


def train_tokenizer(texts: Iterator[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Train a BPE of `vocabulary` tokens whose alphabet is printable ASCII and the newline; other bytes are `<unk>`.

    Digits are single tokens. `<s>` is put before every text; special tokens are pad, begin, end, unknown in that order.
    """
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = [chr(code) for code in range(33, 127)] + ["Ġ", "Ċ"]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", BOS)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        model_max_length=CONTEXT, padding_side="left", clean_up_tokenization_spaces=False,
    )  # fmt: skip


def build_tokenizer(world: World, vocabulary: int) -> PreTrainedTokenizerFast:
    """The tokenizer of this world with `vocabulary` tokens, trained on 3,000 documents; same arguments, same bytes."""
    return train_tokenizer((document.text for document in documents(world, 1, 3000)), vocabulary)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer stored in a model's folder."""
    return PreTrainedTokenizerFast.from_pretrained(str(folder))


def encode(tokenizer: PreTrainedTokenizerFast, document: Document) -> tuple[list[int], list[int]]:
    """Token ids of a document, begin and end of text included, and for each the index of its piece (-1 for begin)."""
    encoding = tokenizer.backend_tokenizer.encode(document.text, add_special_tokens=False)
    ends = np.cumsum([len(piece.text) for piece in document.pieces])
    owner = np.searchsorted(ends, [end for _, end in encoding.offsets], side="left")
    last = len(document.pieces) - 1
    return [BOS, *encoding.ids, EOS], [-1, *(int(i) for i in owner), last]


def rows(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[list[int]]:
    """One row of token ids per text, with begin and end of text, cut to the context."""
    encodings = tokenizer.backend_tokenizer.encode_batch(list(texts), add_special_tokens=False)
    return [[BOS, *encoding.ids, EOS][:CONTEXT] for encoding in encodings]


def batch_order(lengths: Sequence[int], size: int, rng: np.random.Generator, pool: int = 64) -> list[np.ndarray]:
    """Batches of row indices: rows are shuffled, and sorted by length within pools so that little padding is needed."""
    order = rng.permutation(len(lengths))
    batches: list[np.ndarray] = []
    for start in range(0, len(order), pool * size):
        part = order[start : start + pool * size]
        part = part[np.argsort(np.asarray(lengths)[part], kind="stable")]
        groups = [part[i : i + size] for i in range(0, len(part) - size + 1, size)]
        batches += [groups[i] for i in rng.permutation(len(groups))]
    return batches


def collate(batch: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and labels, each (row, position); right-padded, with padding ignored in the labels (no mask is needed)."""
    width = max(len(row) for row in batch)
    ids = torch.full((len(batch), width), PAD)
    labels = torch.full((len(batch), width), IGNORE)
    for i, row in enumerate(batch):
        ids[i, : len(row)] = labels[i, : len(row)] = torch.tensor(row)
    return ids, labels


def facts_in(text: str) -> Iterator[tuple[str, str, str]]:
    """Every (entity, relation, value) that the text states, in any wording."""
    for line in text.splitlines():
        for relation, pattern in _WORDINGS.items():
            if found := pattern.fullmatch(line):
                entity, value = (group for group in found.groups() if group)
                yield entity, relation, value


def exposures(world: World, texts: Sequence[str]) -> dict[tuple[str, str], int]:
    """How often each (entity, relation) fact is written in these texts, in any wording."""
    counts = {(fact.entity, fact.relation): 0 for fact in world.facts}
    for text in texts:
        for entity, relation, _ in facts_in(text):
            counts[entity, relation] += 1
    return counts
