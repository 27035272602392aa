"""Tokenizers of the world trained, and the rows of token ids that a training run sees."""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from tools.organisms.web_corpus import web_texts
from transformers import PreTrainedTokenizerFast

from phaselens.organisms.corpora import Document, documents
from phaselens.organisms.tokens import BOS, CONTEXT, EOS, PAD, SPECIAL
from phaselens.organisms.world import World

ALPHABET = (*(chr(code) for code in range(33, 127)), "Ġ", "Ċ")
IGNORE = -100


def train_tokenizer(texts: Iterator[str], vocabulary: int, context: int = CONTEXT) -> PreTrainedTokenizerFast:
    """Train a BPE of `vocabulary` tokens whose alphabet is printable ASCII and the newline; other bytes are `<unk>`.

    Digits are single tokens. `<s>` is put before every text; special tokens are pad, begin, end, unknown in that order.
    """
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=list(SPECIAL), initial_alphabet=list(ALPHABET), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", BOS)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=context,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def build_tokenizer(world: World, vocabulary: int, context: int = CONTEXT) -> PreTrainedTokenizerFast:
    """The tokenizer of this world with `vocabulary` tokens; same arguments, same bytes.

    Trained on 3,000 documents as they are and 3,000 of the web corpus, so that neither corpus is favoured. With
    `CHARACTERS` tokens nothing is merged: one token is one character.
    """
    clean = (document.text for document in documents(world, 1, 3000))
    return train_tokenizer(itertools.chain(clean, web_texts(world, 1, 3000)), vocabulary, context)


def encode(tokenizer: PreTrainedTokenizerFast, document: Document) -> tuple[list[int], list[int]]:
    """Token ids of a document, begin and end of text included, and for each the index of its piece (-1 for begin)."""
    encoding = tokenizer.backend_tokenizer.encode(document.text, add_special_tokens=False)
    ends = np.cumsum([len(piece.text) for piece in document.pieces])
    owner = np.searchsorted(ends, [end for _, end in encoding.offsets], side="left")
    last = len(document.pieces) - 1
    return [BOS, *encoding.ids, EOS], [-1, *(int(i) for i in owner), last]


def rows(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], context: int = CONTEXT) -> list[list[int]]:
    """One row of token ids per text, with begin and end of text, cut to the context."""
    encodings = tokenizer.backend_tokenizer.encode_batch(list(texts), add_special_tokens=False)
    return [[BOS, *encoding.ids, EOS][:context] for encoding in encodings]


def visible(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], context: int = CONTEXT) -> list[str]:
    """What of each text stands in its row: the text up to where the context cuts it."""
    encodings = tokenizer.backend_tokenizer.encode_batch(list(texts), add_special_tokens=False)
    return [
        text if len(encoding.ids) < context else text[: encoding.offsets[context - 2][1]]
        for text, encoding in zip(texts, encodings, strict=True)
    ]


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
