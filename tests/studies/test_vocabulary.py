"""Tokens as bytes: what two vocabularies share is found by what the tokens stand for, not by how they are written."""

import pytest
from tests.tokenizer_kinds import kind
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from phaselens.studies.stages.vocabulary import digit_tokens, shared_tokens, token_bytes, word_start_tokens
from tiny_panel import tokenizer


def metaspace(pieces) -> PreTrainedTokenizerFast:
    """A tokenizer in the way of SentencePiece: U+2581 is a space, and bytes are written <0x0A>."""
    core = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[], byte_fallback=True))
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback()])
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>")


def test_byte_level_tokens_are_their_bytes_and_special_ones_are_left_out():
    coder = tokenizer()
    found = token_bytes(coder, len(coder))
    assert found[coder.convert_tokens_to_ids("\u0120a")] == b" a"
    assert found[coder.convert_tokens_to_ids("\u0120")] == b" "
    assert coder.eos_token_id not in found
    for index, text in found.items():
        assert coder.decode([index]).encode() == text


def test_metaspace_is_a_space_and_byte_tokens_are_bytes():
    coder = metaspace(["<unk>", "\u2581a", "a", "<0x0A>", "\u00e9", "1b"])
    assert token_bytes(coder, 6) == {1: b" a", 2: b"a", 3: b"\n", 4: "\u00e9".encode(), 5: b"1b"}


def test_ids_beyond_the_vocabulary_are_left_out():
    assert set(token_bytes(tokenizer(), 5)) == {1, 2, 3, 4}


def test_shared_tokens_are_in_one_order_and_stand_for_the_same_bytes():
    left, right = tokenizer(words=("a", "b", "c", "1")), metaspace(["<unk>", "c", "\u2581c", "b", "zz", "a", "1"])
    vocabularies = {"left": token_bytes(left, len(left)), "right": token_bytes(right, 7)}
    shared = shared_tokens(vocabularies)
    texts = {name: [vocabularies[name][i] for i in ids] for name, ids in shared.items()}
    assert texts["left"] == texts["right"] == sorted([b"a", b"b", b"c", b" c", b"1"])


def test_of_two_ids_for_the_same_bytes_the_lower_counts():
    assert shared_tokens({"m": {7: b"x", 3: b"x", 5: b"y"}, "n": {0: b"y", 1: b"x"}}) == {"m": (3, 5), "n": (1, 0)}


def test_nothing_shared_is_nothing():
    assert shared_tokens({"m": {0: b"x"}, "n": {0: b"y"}}) == {"m": (), "n": ()}
    assert shared_tokens({}) == {}


def test_digit_tokens():
    assert digit_tokens({0: b"a", 1: b" 12", 2: "\u0661".encode(), 3: b"x9"}) == {1, 3}


def test_words_begin_with_white_space_or_hold_a_line_break():
    vocabulary = {0: b"a", 1: b" a", 2: b"\n", 3: b".\n", 4: b"", 5: b"\tx", 6: b"x "}
    assert word_start_tokens(vocabulary) == {1, 2, 3, 5}


def test_chinese_and_japanese_characters_begin_words_and_korean_and_latin_ones_do_not():
    begins = ["\u4f60", "\u597d\u4e16", "\u306e", "\u30ab\u30ca", "\u3002", "\u300c", "\uff0c", "\U00020000"]
    inside = ["a", "\u00e9", "\u043f", "\ud55c\uad6d", "\u0e01", "\U0001f600", "\u2026"]
    vocabulary = {i: text.encode() for i, text in enumerate([*begins, *inside])}
    assert word_start_tokens(vocabulary) == set(range(len(begins)))
    assert word_start_tokens({0: b"\xe4", 1: b"\xe4\xbd", 2: b"\xbd\xa0", 3: b"\xa0"}) == {0, 1}, "parts of a character"


SPACED = ("SentencePiece, space before", "WordPiece", "Unigram")


@pytest.mark.parametrize("name", ["byte BPE, BOS", "SentencePiece", *SPACED])
def test_of_every_kind_words_begin_where_they_do_in_the_text(name):
    coder = kind(name)
    known = word_start_tokens(token_bytes(coder, len(coder)))
    ids = coder.encode("she had a red ball", add_special_tokens=False)
    found = sum(i in known for i in ids)
    assert found == (5 if name in SPACED else 4)


def test_where_the_end_of_a_word_is_marked_nothing_is_known_of_beginnings():
    assert word_start_tokens({0: b"the</w>", 1: b"s", 2: b"\n"}) is None


@pytest.mark.assets
def test_real_tokenizers_agree_with_their_own_decoding(shared):
    """A Llama tokenizer with 512 pieces and one with 105 characters: a token alone, up to the space in front."""
    for name in ("stories260K", "babyllama-105"):
        coder = AutoTokenizer.from_pretrained(shared / "models" / name / "hf")
        found = token_bytes(coder, len(coder))
        assert len(found) > 90
        seen = 0
        for index, text in found.items():
            shown = coder.decode([index])
            if "\ufffd" not in shown:
                assert shown.strip(" ").encode() == text.strip(b" "), (name, index)
                seen += 1
        assert seen > 80
