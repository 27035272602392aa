"""Every item gets labels that form trees; hand-checked sentences; the reading decides what a phrase hangs on."""

from collections import defaultdict

import pytest

from phaselens.errors import InputError, UnknownNameError
from phaselens.organisms import corpora, label, label_document, world
from phaselens.organisms.grammar import ROOT, parse
from phaselens.organisms.item_labels import DIFFICULTY

TAGS = "NOUN PROPN VERB AUX DET ADJ ADP PRON ADV CCONJ SCONJ NUM PUNCT SYM".split()


@pytest.fixture(scope="module")
def earth():
    return world.build_world()


@pytest.fixture(scope="module")
def labelled(earth):
    return [item for document in corpora.documents(earth, 5, 250) for item in label_document(earth, document)]


def test_every_item_has_words_that_form_one_tree_a_sentence(labelled):
    for item in labelled:
        roots = defaultdict(int)
        for word in item.words:
            assert item.text[word.start : word.end] == word.text
            assert word.pos in TAGS and word.number in ("singular", "plural", "none")
            roots[word.sentence] += word.head == ROOT
            if word.head == ROOT:
                assert word.depth == 0
            else:
                head = item.words[word.head]
                assert head.sentence == word.sentence and word.depth == head.depth + 1
        assert set(roots.values()) == {1} and sorted(roots) == list(range(len(roots)))
        covered = "".join(word.text for word in item.words)
        assert covered == "".join(item.text.split())


def test_what_the_generator_writes_is_true_and_every_kind_comes_up(labelled):
    kinds = defaultdict(list)
    for item in labelled:
        kinds[item.kind].append(item)
        assert item.truth is not False
        assert item.category == ("header" if item.template == "header" else corpora.KINDS[item.kind][1])
    assert set(kinds) == set(corpora.KINDS) == set(DIFFICULTY)
    for kind, items in kinds.items():
        told = [item for item in items if item.template != "header"]
        assert all((item.truth is True) == (kind in ("Notes", "Quiz", "Choice", "Sums", "Laws")) for item in told)
        assert all((item.difficulty is None) == (DIFFICULTY[kind] is None) for item in told)
        assert all((item.frequency in (1, 2, 3, 4)) == (kind in ("Notes", "Quiz", "Choice")) for item in told)
        assert all((item.sense is not None) == (kind == "Words") for item in told)


# kind, text, and for each word: tag, number (s, p, -), head (0 for the root, else the place of the head from 1)
HAND = [
    ("Notes", "- Ada lives in Oslo.", "PUNCT-3 PROPNs3 VERBs0 ADP-5 PROPNs3 PUNCT-3"),
    ("Notes", "- We call Ada the baker.", "PUNCT-3 PRONp3 VERBp0 PROPNs3 DET-6 NOUNs3 PUNCT-3"),
    ("Notes", "- The coat of Ada is red.", "PUNCT-7 DET-3 NOUNs7 ADP-5 PROPNs3 AUXs7 ADJ-0 PUNCT-7"),
    ("Notes", "- All day Ada is with Kim.", "PUNCT-7 DET-3 NOUNs7 PROPNs7 AUXs7 ADP-7 PROPNs0 PUNCT-7"),
    ("Notes", "- For lunch Ada has eggs.", "PUNCT-5 ADP-3 NOUNs5 PROPNs5 VERBs0 NOUNp5 PUNCT-5"),
    (
        "Quiz",
        "Q: What color does Ada wear? A: red.",
        "NOUNs7 PUNCT-1 DET-4 NOUNs7 AUXs7 PROPNs7 VERB-0 PUNCT-7 NOUNs11 PUNCT-9 NOUNs0 PUNCT-11",
    ),
    (
        "Choice",
        "- Ada lives in Oslo or Rome? Oslo.",
        "PUNCT-3 PROPNs3 VERBs0 ADP-5 PROPNs3 CCONJ-7 PROPNs5 PUNCT-3 PROPNs0 PUNCT-9",
    ),
    ("Sums", "- 23 + 45 = 68.", "PUNCT-5 NUM-5 SYM-4 NUM-2 SYM-0 NUM-5 PUNCT-5"),
    ("Laws", "- If metal is heated, it expands.", "PUNCT-8 SCONJ-5 NOUNs5 AUXs5 VERB-8 PUNCT-5 PRONs8 VERBs0 PUNCT-8"),
    (
        "Laws",
        "- The wax cup is heated. It is fat, so it melts and flows away.",
        "PUNCT-6 DET-4 NOUNs4 NOUNs6 AUXs6 VERB-0 PUNCT-6 "
        "PRONs10 AUXs10 NOUNs0 PUNCT-14 CCONJ-14 PRONs14 VERBs10 CCONJ-16 VERBs14 ADV-16 PUNCT-10",
    ),
    ("Story", "Once there were two old cats.", "ADV-3 PRON-3 VERBp0 NUM-6 ADJ-6 NOUNp3 PUNCT-3"),
    (
        "Story",
        " The cats with the bell are cold in the rain.",
        "DET-2 NOUNp7 ADP-5 DET-5 NOUNs2 AUXp7 ADJ-0 ADP-10 DET-10 NOUNs7 PUNCT-7",
    ),
    ("Story", " It walked to the red river again.", "PRONs2 VERB-0 ADP-6 DET-6 ADJ-6 NOUNs2 ADV-2 PUNCT-2"),
    ("Words", "- We all knew the steel crane.", "PUNCT-4 PRONp4 DET-2 VERB-0 DET-7 NOUNs7 NOUNs4 PUNCT-4"),
    (
        "Words",
        "- The boy hit the dog with the stick. The boy used it.",
        "PUNCT-4 DET-3 NOUNs4 VERB-0 DET-6 NOUNs4 ADP-9 DET-9 NOUNs4 PUNCT-4 DET-12 NOUNs13 VERB-0 PRONs13 PUNCT-13",
    ),
    (
        "Words",
        "- The boy hit the dog with the stick. The dog had it.",
        "PUNCT-4 DET-3 NOUNs4 VERB-0 DET-6 NOUNs4 ADP-9 DET-9 NOUNs6 PUNCT-4 DET-12 NOUNs13 VERB-0 PRONs13 PUNCT-13",
    ),
    ("Records", "item: hat; count: 3", "NOUNs0 PUNCT-1 NOUNs1 PUNCT-5 NOUNs1 PUNCT-5 NUM-5"),
    ("Brackets", "- ( [ ] ) { }", "PUNCT-0 PUNCT-1 PUNCT-2 PUNCT-3 PUNCT-2 PUNCT-1 PUNCT-6"),
]


@pytest.mark.parametrize(("kind", "text", "expected"), HAND, ids=[text for _, text, _ in HAND])
def test_hand_checked(kind, text, expected):
    short = {"singular": "s", "plural": "p", "none": "-"}
    words = parse(text, kind, mark="dog had it" in text)
    assert " ".join(f"{w.pos}{short[w.number]}{w.head + 1}" for w in words) == expected


def test_attachment_follows_the_reading(earth):
    def head(text):
        item = label(earth, text, "Words")
        thing = next(i for i, word in enumerate(item.words) if word.text == "with") + 2
        return item.words[item.words[thing].head].text, item.sense, item.difficulty

    start = "- The girl pushed the lion with the"
    assert head(f"{start} net. The girl used it.") == ("pushed", "instrument", 1)
    assert head(f"{start} net. The lion had it.") == ("lion", "mark", 1)
    assert head(f"{start} hammer.") == ("pushed", "instrument", 0)
    assert head(f"{start} scar.") == ("lion", "mark", 0)
    assert head(f"{start} net.") == ("pushed", "either", 1)


def test_truth_difficulty_and_sense(earth):
    def said(text, kind):
        item = label(earth, text, kind)
        return item.truth, item.difficulty

    fact = next(f for f in earth.facts if f.frequency == 0 and f.relation == "food")
    wrong = next(v for v in world.FOODS if v != fact.value)
    assert said(f"- {fact.entity} eats {fact.value}.", "Notes") == (True, 4)
    assert said(f"Q: What does {fact.entity} eat? A: {wrong}.", "Quiz") == (False, 4)
    assert said("- 23 + 45 = 68.", "Sums") == (True, 0) and said("- 27 + 45 = 62.", "Sums") == (False, 1)
    assert said("- If metal is heated, it expands.", "Laws") == (True, 1)
    assert said("- The iron rod is heated. It expands.", "Laws") == (True, 2)
    assert said("- The iron rod is heated. In the end it gets longer.", "Laws") == (True, 3)
    assert said("- The iron rod is heated. It melts.", "Laws") == (False, 2)
    assert said("- The iron rod is heated. It is fat, so it expands and gets longer.", "Laws") == (False, 1)
    for between, difficulty in (("", 0), (" with the bells", 1), (" with the bell", 2)):
        assert said(f" The cats{between} are cold.", "Story") == (None, difficulty)
    assert said("- 8, 9, 10, 11, 12, 13", "Count") == (None, 1)
    assert said("- 3, 13, 23, 33, 43, 53", "Count") == (None, 0)
    assert said("- ( [ ] ) { }", "Brackets") == (None, 2)
    sense = [
        label(earth, f"- The {a} bat was in the picture.{rest}", "Words").sense
        for a, rest in (("furry", ""), ("same", ""), ("same", " It was used in a game."))
    ]
    assert sense == ["bat: furry", "either", "bat: wooden"]


@pytest.mark.parametrize(
    ("kind", "text"),
    [("Notes", "- Ada lives on Mars."), ("Sums", "- 2 + 2"), ("Story", " Hello world."), ("Laws", "- Iron is red.")],
)
def test_foreign_texts_are_refused(earth, kind, text):
    with pytest.raises(InputError, match="wanted a text that the generator writes"):
        label(earth, text, kind)
    with pytest.raises(UnknownNameError):
        label(earth, text, "Poems")
