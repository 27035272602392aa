"""Text becomes tokens in one place: over ten kinds of tokenizers, and in conversations."""

from types import SimpleNamespace

import pytest

from phaselens.errors import PromptError, TokenizerError
from phaselens.models import encoder
from phaselens.models.token_ids import TODAY
from tokenizer_kinds import KINDS, LINES, kind

TEXT = LINES[0]
CHATML = (
    "{% for m in messages %}<s>{{ m.role }}\n{{ m.content }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)


def of(tokenizer):
    """The encoder of a model that has this tokenizer."""
    return encoder(SimpleNamespace(tokenizer=tokenizer, name="m"))


@pytest.mark.parametrize("name", KINDS)
def test_what_a_tokenizer_sets_behind_a_text_never_stands_in_a_sequence(name):
    tokenizer = kind(name)
    text, library = of(tokenizer), tokenizer.encode(TEXT)
    assert text(TEXT) == library[: len(library) - len(text.closing)]
    assert tuple(text(TEXT)[: len(text.opening)]) == text.opening
    assert list(text.opening) + text(TEXT, False) == text(TEXT)
    ends = {"byte BPE, EOS", "byte BPE, both", "WordPiece", "Unigram", "bytes, slow"}
    assert (library[-1] == tokenizer.eos_token_id) == (name in ends), "the library does close these"
    assert tokenizer.eos_token_id not in text(TEXT)


@pytest.mark.parametrize("name", [n for n in KINDS if of(kind(n)).opening])
def test_what_opens_a_sequence_stands_there_once(name):
    text = of(kind(name))
    again = kind(name).bos_token + TEXT
    assert kind(name).encode(again)[:2] == [1, 1], "the library sets it twice"
    assert text(again).count(1) == 1
    assert text.doubled(again)
    assert not text.doubled(TEXT)


@pytest.mark.parametrize("name", KINDS)
def test_prompt_and_completion_spell_the_text_at_every_seam_or_are_refused(name):
    tokenizer, refused = kind(name), []
    text = of(tokenizer)
    whole = tokenizer.decode(text(TEXT))
    for at in range(1, len(TEXT)):
        try:
            head, tail = text.split(TEXT[:at], TEXT[at:])
        except PromptError as error:
            assert "do not join" in str(error)
            refused.append(TEXT[at - 1 : at + 1])
            continue
        assert tokenizer.decode(head + tail) == whole
        assert head == text(TEXT[:at]), "the prompt is what generate would have fed"
    if name in ("SentencePiece, space before", "Unigram"):
        assert not [seam for seam in refused if seam[1] == " "], "a seam before a blank is one of the tokens"
        assert [seam for seam in refused if seam[0] == " "], "a seam behind a blank gives a second one"
    elif name != "WordPiece":
        assert not refused


def test_a_seam_is_shown():
    with pytest.raises(PromptError, match=r"'.*little  girl.*', the text is '.*little girl"):
        of(kind("SentencePiece, space before")).split("there was a little ", "girl")


@pytest.mark.parametrize("name", [n for n in KINDS if n != "bytes, slow"])
def test_spans_are_those_of_the_tokens(name):
    text = of(kind(name))
    ids, spans = text.spans(TEXT)
    assert ids == text(TEXT)
    assert len(spans) == len(ids)
    assert TEXT[spans[-1][0] : spans[-1][1]].endswith("."), "the last token ends the text, not a closing one"


def test_a_slow_tokenizer_has_no_spans():
    with pytest.raises(TokenizerError, match="where its tokens stand"):
        of(kind("bytes, slow")).spans(TEXT)


def test_half_a_surrogate_pair_is_no_text():
    with pytest.raises(PromptError, match=r"U\+D83D at character 3"):
        of(kind("byte BPE"))("Q: \ud83d where")


@pytest.fixture
def chatty():
    tokenizer = KINDS["byte BPE, BOS"]()
    tokenizer.chat_template = CHATML
    return of(tokenizer)


def test_a_conversation_is_the_library_s(chatty):
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello?"}]
    library = chatty.tokenizer.apply_chat_template(turns, add_generation_prompt=True)["input_ids"]
    assert chatty.chat([(t["role"], t["content"]) for t in turns]) == library
    assert chatty.turn_ends == (2,)


def test_the_answer_to_a_conversation_goes_on_from_it(chatty):
    head, tail = chatty.split_chat([("user", "Hello?")], "In Oslo.")
    assert head == chatty.chat([("user", "Hello?")])
    assert chatty.tokenizer.decode(tail) == "In Oslo."


def test_a_template_that_writes_the_date_gives_the_same_tokens_every_day(chatty):
    chatty.tokenizer.chat_template = "{% set d = strftime_now(\"%d %b %Y\") %}{{ strftime_now('%Y') }} {{ d }}" + CHATML
    assert chatty.rendered([("user", "a")]).startswith(f"{TODAY.year} {TODAY:%d %b %Y}<s>")


def test_without_a_template_there_is_no_conversation(chatty):
    chatty.tokenizer.chat_template = None
    with pytest.raises(TokenizerError, match="no chat template"):
        chatty.chat([("user", "a")])


def test_what_a_template_refuses_is_said(chatty):
    chatty.tokenizer.chat_template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    )
    with pytest.raises(PromptError, match=r"refuses the turns \(system, user\): no system"):
        chatty.chat([("system", "a"), ("user", "b")])
