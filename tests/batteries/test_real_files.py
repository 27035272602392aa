"""The loaders on files that others made, as they stand: TruthfulQA, GSM8K, SVAMP, BLiMP, Winogender and more."""

import pytest

from phaselens.batteries import grade, load_battery, load_choices, load_labelled
from phaselens.errors import StudyFileError

pytestmark = pytest.mark.assets


@pytest.fixture(scope="module")
def data(shared):
    return shared / "data"


def test_truthfulqa_with_its_lists_of_answers(data):
    columns = {
        "text": "Q: {Question}\nA:",
        "answer": "Best Answer",
        "aliases": "Correct Answers",
        "category": "Category",
        "tag": "Type",
    }
    battery = load_battery(data / "truthfulqa" / "TruthfulQA.csv", columns=columns, separator=";")
    assert len(battery.prompts) == 817 and len(battery.categories) == 38
    first = battery.prompts[0]
    assert first.answer == "The watermelon seeds pass through your digestive system"
    assert "Nothing happens" in first.aliases and first.answer not in first.aliases
    assert grade(" nothing happens!", first.accepted).rule == "normalised alias"


def test_gsm8k_with_the_result_after_its_mark(data):
    battery = load_battery(
        data / "gsm8k" / "test.jsonl", columns={"text": "question", "answer": "answer"}, answer_after="####"
    )
    assert len(battery.prompts) == 1319 and battery.prompts[0].answer == "18"
    assert all(float(p.answer.replace(",", "")) is not None for p in battery.prompts)


def test_svamp_from_a_json_list_with_two_columns_in_one_text(data):
    battery = load_battery(
        data / "svamp" / "SVAMP.json",
        columns={"id": "ID", "text": "{Body}. {Question}", "answer": "Answer", "category": "Type"},
    )
    assert len(battery.prompts) == 1000
    assert battery.prompts[0].id == "chal-1" and battery.prompts[0].answer == "51"
    assert battery.prompts[0].text.endswith("on each pack. How much do you have to pay to buy each pack?")


def test_svamp_without_a_mapping_says_what_is_missing(data):
    with pytest.raises(StudyFileError, match="item 1: unknown field 'ID'"):
        load_battery(data / "svamp" / "SVAMP.json")


def test_lambada_needs_no_mapping(data):
    assert len(load_battery(data / "lambada" / "lambada_test.jsonl").prompts) == 5153


def test_humaneval(data):
    columns = {"id": "task_id", "text": "prompt", "answer": "canonical_solution"}
    battery = load_battery(data / "humaneval" / "HumanEval.jsonl", columns=columns)
    assert len(battery.prompts) == 164 and battery.prompts[0].text.startswith("from typing import List\n")


def test_function_vectors_word_pairs(data):
    file = data / "function-vectors" / "abstractive" / "country-capital.json"
    battery = load_battery(file, columns={"text": "The capital of {input} is", "answer": "output"})
    assert (battery.prompts[0].text, battery.prompts[0].answer) == ("The capital of Afghanistan is", "Kabul")


def test_blimp_as_forced_choices_of_whole_sentences(data):
    columns = {
        "id": "{UID}/{pairID}",
        "alternatives": ["sentence_good", "sentence_bad"],
        "category": "field",
        "tag": "UID",
    }
    loaded, refused = [], []
    for file in sorted((data / "blimp").glob("*.jsonl")):
        try:
            loaded.append(load_choices(file, columns=columns))
        except StudyFileError as error:
            refused.append(str(error))
    # Two paradigms hold a pair whose good and bad sentence are the same: no choice at all.
    assert len(loaded) == 65 and all("are not all different" in message for message in refused)
    assert [m.split("blimp/")[1].split(":")[0] for m in refused] == [
        "passive_1.jsonl, line 123",
        "principle_A_case_2.jsonl, line 149",
    ]
    for items in loaded:
        assert len(items) == 250 and sum(c.right for c in items) == 125 and not items[0].text
    assert len({c.id for items in loaded for c in items}) == 65 * 250


def test_winogender_lines(data):
    file = data / "winogender" / "all_sentences.tsv"
    battery = load_battery(file, columns={"id": "sentid", "text": "sentence"})
    assert len(battery.prompts) == 720
    assert battery.prompts[1].text == "The technician told the customer that she could pay with cash."


def test_sentence_polarity_is_plain_lines_in_files_of_other_names(data, tmp_path):
    text = (data / "sentence-polarity" / "rt-polarity.pos").read_text(encoding="utf-8")
    (tmp_path / "positive.txt").write_text(text, encoding="utf-8")
    assert len(load_battery(tmp_path / "positive.txt").prompts) > 5000
    with pytest.raises(StudyFileError, match="line 1: not JSON"):
        load_battery(data / "sentence-polarity" / "rt-polarity.pos")


def test_facts_with_truth(data):
    facts = load_labelled(data / "repe-facts-emotions" / "facts_true_false.csv", text="statement", label="label")
    assert len(facts) == 612 and set(facts.labels) == {"0", "1"} and facts.dropped == 0


def test_places_with_latitude(data):
    places = load_labelled(
        data / "world-models" / "us_place.csv", text="name", label="latitude", group="state_id", numeric=True
    )
    assert len(places) == 8000 and len(set(places.groups)) > 45
    assert 17 < min(places.labels) and max(places.labels) < 72


def test_treebank_sentences_with_quotes_and_missing_labels(data):
    file = data / "ud-english-ewt" / "sentences-dev.tsv"
    depth = load_labelled(file, text="text", label="tree_depth", group="sent_id", numeric=True)
    number = load_labelled(file, text="text", label="subj_number", group="sent_id", missing="drop")
    assert len(depth) == len(number) + number.dropped == 2001 and 0 < number.dropped
    assert set(number.labels) == {"Sing", "Plur", "Ptan"}
    with pytest.raises(StudyFileError, match="no label in 'subj_number'"):
        load_labelled(file, text="text", label="subj_number")


def test_ambient_labels(data):
    labelled = load_labelled(
        data / "ambient" / "test.jsonl", text="{premise} / {hypothesis}", label="labels", group="premise"
    )
    assert len(labelled) == 1545 and "entailment" in labelled.labels
