"""Label files of others: tiny literal CoNLL-U, sentence and statement files, mistakes in them, and the real ones."""

import json
from collections import Counter

import numpy as np
import pytest

from phaselens.batteries.label_files import read_conllu, read_labels
from phaselens.cli import call
from phaselens.errors import InputError, StudyFileError
from phaselens.models import load
from phaselens.readings import Columns, read_examples
from phaselens.readings.examples import place

FEW = ("--folds", "3", "--draws", "2", "--permutations", "19", "--l2", "100", "--json")


def word(number, form, upos="X", head=0, feats="_", misc="_"):
    return "\t".join([str(number), form, form, upos, "_", feats, str(head), "dep", "_", misc])


def conllu(path, *sentences):
    path.write_text("".join("\n".join(lines) + "\n\n" for lines in sentences))
    return path


DOGS = (
    "# newdoc id = d1",
    "# sent_id = s1",
    "# text = Dogs don't run.",
    word(1, "Dogs", "NOUN", 4, "Number=Plur"),
    word("2-3", "don't"),
    word(2, "do", "AUX", 4),
    word(3, "n't", "PART", 4),
    word(4, "run", "VERB", 0, misc="SpaceAfter=No"),
    word("4.1", "fast", "ADV", "_"),
    word(5, ".", "PUNCT", 4),
)
DU = (
    "# sent_id = s2",
    word("1-2", "du"),
    word(1, "de", "ADP", 3),
    word(2, "le", "DET", 3),
    word(3, "pain", "NOUN", 0, "Number=Sing", "SpaceAfter=No"),
    word(4, "!", "PUNCT", 3),
)


# --- CoNLL-U ---


def test_words_of_a_tree_bank_stand_where_they_are_written(tmp_path):
    table = read_conllu(conllu(tmp_path / "a.conllu", DOGS, DU))
    seen = [(r.values["text"][r.values["start"] : r.values["end"]], r.values["upos"]) for r in table.rows]
    assert seen == [
        ("Dogs", "NOUN"),
        ("do", "AUX"),
        ("n't", "PART"),
        ("run", "VERB"),
        (".", "PUNCT"),
        ("du", "ADP"),
        ("du", "DET"),
        ("pain", "NOUN"),
        ("!", "PUNCT"),
    ]
    assert table.rows[-1].values["text"] == "du pain!"  # put together from forms where the file gives no text
    assert [r.values["depth"] for r in table.rows[:5]] == ["1", "1", "1", "0", "1"]
    assert [r.values.get("Number") for r in table.rows[:2]] == ["Plur", None]
    assert [r.values["document"] for r in table.rows] == ["d1"] * 9
    assert table.rows[1].place == "line 6"


def test_a_tree_bank_needs_no_option_and_takes_any_column(tmp_path):
    path = conllu(tmp_path / "a.conllu", DOGS, DU)
    found = read_examples(path)
    assert found.labels.tolist()[:2] == ["NOUN", "AUX"] and found.groups.tolist() == ["s1"] * 5 + ["s2"] * 4
    assert found.kinds.tolist()[0] == "dogs" and found.items[0].span == (0, 4)
    number = read_examples(path, Columns(label="Number"))
    assert [label for label in number.labels if label] == ["Plur", "Sing"]


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (("# text = A", word(1, "A").replace("\t", " ")), "line 2: a CoNLL-U word has 10 fields"),
        (("# text = A", word("x", "A")), "line 2: a CoNLL-U word has 10 fields"),
        (("# text = A b", word(1, "A"), word(3, "b")), "line 3: word 3 follows word 1"),
        (("# text = A c", word(1, "A"), word(2, "b")), "line 3: the word 'b' does not stand in the text"),
        (("# text = A oh b", word(1, "A"), word(2, "b")), "does not stand in the text after character 1"),
        (("# text = A", word(1, "A", head=7)), "leads to word 7"),
        (("# text = A b", word(1, "A", head=2), word(2, "b", head=1)), "leads back"),
        (("# text = A", word(1, "A", head="up")), "the head is a word's number"),
        (("# only a comment",), "no word was found"),
    ],
)
def test_a_wrong_line_of_a_tree_bank_is_named(tmp_path, lines, says):
    with pytest.raises(StudyFileError, match="a.conllu") as error:
        read_conllu(conllu(tmp_path / "a.conllu", lines))
    assert says in str(error.value)


# --- sentences and statements ---


def test_sentence_files_are_read_with_and_without_header(tmp_path):
    bare, named = tmp_path / "a.tsv", tmp_path / "b.tsv"
    bare.write_text("tr\tPAST\tHe ran .\nte\tPRES\tShe runs .\n")
    named.write_text("text\tn_words\ttense\nHe ran .\t3\tPAST\nShe runs\t2\t\n")
    assert read_labels(bare).columns == ("split", "label", "text")
    assert read_examples(bare).labels.tolist() == ["PAST", "PRES"]
    assert read_examples(bare, Columns(fold="split")).folds.tolist() == [1, 0]
    assert read_examples(named, Columns("tense")).labels.tolist() == ["PAST", None]
    bare.write_text("tr\tPAST\tHe ran .\ntest\tPRES\tShe runs .\n")
    with pytest.raises(StudyFileError, match="line 2: wanted tr, va or te"):
        read_examples(bare)
    with pytest.raises(StudyFileError, match="Did you mean 'tense'"):
        read_examples(named, Columns("tens"))


def test_numbers_become_classes_of_about_equal_size(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("text\tn\n" + "".join(f"t{i}\t{i % 10}\n" for i in range(100)))
    assert Counter(read_examples(path, Columns("n"), bins=2).labels) == {"0 to 4": 50, "5 to 9": 50}
    with pytest.raises(InputError, match="labels that are numbers"):
        read_examples(path, Columns("text"), bins=2)
    with pytest.raises(InputError, match="at least 2 bins"):
        read_examples(path, Columns("n"), bins=1)


def test_statements_need_no_option_and_equal_texts_are_one_group(tmp_path):
    path = tmp_path / "facts.csv"
    path.write_text('statement,label\n"Water, it is said, is wet.",1\nFire is cold.,0\nFire is cold.,0\n')
    found = read_examples(path)
    assert found.items[0].text == "Water, it is said, is wet." and found.labels.tolist() == ["1", "0", "0"]
    assert len(set(found.groups)) == 2
    path.write_text("claim,label\nFire is cold.,0\n")
    with pytest.raises(StudyFileError, match="no column of texts"):
        read_examples(path)


# --- the real files with a real model ---


@pytest.fixture
def probe(capsys):
    def run(*arguments):
        capsys.readouterr()
        code = call(["probe", *(str(a) for a in arguments)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.mark.assets
def test_every_word_of_a_real_tree_bank_stands_in_its_text(shared):
    table = read_conllu(shared / "data" / "ud-english-ewt" / "en_ewt-ud-dev.conllu")
    values = [row.values for row in table.rows]
    spelled = np.mean([v["text"][v["start"] : v["end"]].lower() == v["form"] for v in values])
    assert len({v["sentence"] for v in values}) == 2001 and len(values) > 25_000
    assert spelled > 0.99  # the rest are words of contractions that their parts do not spell


@pytest.mark.assets
@pytest.mark.slow
def test_a_real_model_is_probed_on_a_tree_bank(probe, shared, tmp_path):
    lines = (shared / "data" / "ud-english-ewt" / "en_ewt-ud-dev.conllu").read_text().split("\n\n")
    file = tmp_path / "few.conllu"
    file.write_text("\n\n".join([s for s in lines if len(s) < 2000][:250]) + "\n\n")
    code, said, err = probe(
        shared / "models" / "stories260K" / "hf", "--data", file, "--out", tmp_path / "out", "--layers", "0,2", *FEW
    )
    assert code == 0, err
    (task,) = json.loads(said)["tasks"]
    assert {"NOUN", "VERB"} <= set(task["classes"]) and task["n_labelled"] > 150
    assert [row["layer"] for row in task["layers"]] == [0, 2, 5]
    assert task["peak_capacity"] > 0.1 and task["p"] == pytest.approx(0.05)


@pytest.mark.assets
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options", "classes"),
    [
        ("ud-english-ewt/sentences-dev.tsv", ("--label", "subj_number"), ["Plur", "Sing"]),
        ("ud-english-ewt/sentences-dev.tsv", ("--label", "n_words", "--bins", "3"), None),
        ("repe-facts-emotions/facts_true_false.csv", (), ["0", "1"]),
    ],
)
def test_a_real_model_is_probed_on_sentences(probe, shared, tmp_path, name, options, classes):
    source = shared / "data" / name
    file = tmp_path / source.name
    file.write_text("".join(source.read_text().splitlines(keepends=True)[:200]))
    code, said, err = probe(
        shared / "models" / "stories260K" / "hf",
        "--data",
        file,
        "--out",
        tmp_path / "out",
        "--layers",
        "3",
        *options,
        *FEW,
    )
    assert code == 0, err
    (task,) = json.loads(said)["tasks"]
    assert task["n_labelled"] > 80 and (classes is None or task["classes"] == classes)
    assert len(task["classes"]) == (3 if classes is None else 2)


@pytest.mark.assets
def test_real_files_become_examples_and_places_of_a_real_model(shared):
    model = load(shared / "models" / "stories260K" / "hf")
    data = shared / "data"
    facts = read_examples(data / "repe-facts-emotions" / "facts_true_false.csv")
    assert Counter(facts.labels) == {"1": 306, "0": 306}
    number = read_examples(data / "ud-english-ewt" / "sentences-dev.tsv", Columns("subj_number"))
    assert set(number.labels) == {"Sing", "Plur", "Ptan", None}
    words = read_examples(data / "ud-english-ewt" / "en_ewt-ud-dev.conllu")
    found, places = place(model, words.keep(np.arange(0, len(words), 50)))
    spelled = [model.tokenizer.decode(ids[lo:hi]) for ids, lo, hi in zip(places.ids, places.lo, places.hi, strict=True)]
    assert np.mean([s.strip().lower() == i.kind for s, i in zip(spelled, found.items, strict=True)]) > 0.95
    assert len(found) > 300 and all("whole tokens" in flag.reason for flag in found.flags)


@pytest.mark.assets
def test_one_class_and_too_few_examples_are_refused(probe, shared, tmp_path):
    model, file = shared / "models" / "stories260K" / "hf", tmp_path / "few.csv"
    file.write_text("statement,label\nFire is hot.,1\nIce is cold.,1\nSnow is white.,1\nThe sea is dry.,1\n")
    code, _, err = probe(model, "--data", file, "--out", tmp_path / "out", *FEW)
    assert code == 2 and "two classes" in err
    file.write_text("statement,label\nFire is hot.,1\nIce is cold.,0\n")
    code, _, err = probe(model, "--data", file, "--out", tmp_path / "other", *FEW)
    assert code == 2 and "fewer than 3 folds" in err
