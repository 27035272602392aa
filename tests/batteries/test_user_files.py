"""Loaders by column mapping: what a row becomes in every format, and one clear error for each mistake."""

import json

import pytest

from phaselens.batteries import (
    ForcedChoice,
    Labelled,
    MinimalPair,
    Prompt,
    Question,
    load_battery,
    load_choices,
    load_labelled,
    load_pairs,
    load_questions,
)
from phaselens.errors import PromptError, StudyFileError, UnknownNameError

ROWS = [
    {"n": 1, "question": "Where, please?", "best": "here", "all": "here; there", "type": "place"},
    {"n": 2, "question": 'Who "is" it?', "best": "me", "all": "me; I; ", "type": "person"},
]
COLUMNS = {"id": "n", "text": "Q: {question}\nA:", "answer": "best", "aliases": "all", "category": "type"}
EXPECTED = (
    Prompt("1", "Q: Where, please?\nA:", "place", "here", aliases=("there",)),
    Prompt("2", 'Q: Who "is" it?\nA:', "person", "me", aliases=("I",)),
)


def write(tmp_path, name, text):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def as_text(kind):
    """The rows in one format."""
    if kind == "json":
        return json.dumps(ROWS)
    if kind == "jsonl":
        return "".join(json.dumps(row) + "\n" for row in ROWS)
    if kind == "tsv":
        return "\r\n".join("\t".join(map(str, cells)) for cells in (ROWS[0], *(row.values() for row in ROWS)))
    quoted = [[f'"{str(v).replace(chr(34), chr(34) * 2)}"' for v in row.values()] for row in ROWS]
    return "\ufeff" + "\n".join(map(",".join, [list(ROWS[0]), *quoted]))


@pytest.mark.parametrize("kind", ["json", "jsonl", "csv", "tsv"])
def test_every_format_gives_the_same_prompts(tmp_path, kind):
    battery = load_battery(write(tmp_path, f"b.{kind}", as_text(kind)), columns=COLUMNS, separator=";")
    assert battery.prompts == EXPECTED


def test_without_aliases_the_answer_itself_is_cut(tmp_path):
    path = write(tmp_path, "b.jsonl", as_text("jsonl"))
    columns = {"text": "question", "answer": "all"}
    assert [p.accepted for p in load_battery(path, columns=columns, separator=";").prompts] == [
        ("here", "there"),
        ("me", "I"),
    ]
    assert load_battery(path, columns=columns).prompts[0].accepted == ("here; there",)


def test_lists_numbers_and_marks_in_answers(tmp_path):
    rows = [{"text": "a", "answer": ["x", "y"]}, {"text": "b", "answer": 51.0}, {"text": "c", "answer": "so #### 18"}]
    path = write(tmp_path, "b.json", json.dumps(rows))
    assert [p.accepted for p in load_battery(path).prompts] == [("x", "y"), ("51",), ("so #### 18",)]
    with pytest.raises(StudyFileError, match="item 1: nothing stands after '####' in the answer 'x'"):
        load_battery(path, answer_after="####")
    path = write(tmp_path, "c.json", json.dumps(rows[2:]))
    assert load_battery(path, answer_after="####").prompts[0].answer == "18"


def test_plain_text_is_a_prompt_a_line(tmp_path):
    battery = load_battery(write(tmp_path, "b.txt", 'one\n\n{"two"}\r\n'))
    assert battery.prompts == (Prompt("p0001", "one"), Prompt("p0003", '{"two"}'))


def test_a_cell_may_span_lines_and_later_places_are_still_right(tmp_path):
    path = write(tmp_path, "b.csv", 'text,answer\n"one\ntwo",1\n\nthree,3\nfour,"4",5\n')
    with pytest.raises(StudyFileError, match="line 6: more fields than the header has .3, not 2: text, answer"):
        load_battery(path)
    path = write(tmp_path, "b.csv", 'text,answer\n"one\ntwo",1\n\nthree,3\n')
    assert load_battery(path).prompts == (Prompt("p0002", "one\ntwo", "", "1"), Prompt("p0005", "three", "", "3"))


def test_strange_line_separators_inside_json_do_not_cut_it(tmp_path):
    path = write(tmp_path, "b.jsonl", '{"text": "a\u2028b\u0085c"}\n')
    assert load_battery(path).prompts[0].text == "a\u2028b\u0085c"


def test_templates_braces_and_columns_that_look_like_templates(tmp_path):
    path = write(tmp_path, "b.jsonl", '{"{x}": "odd", "y": 2}\n')
    assert load_battery(path, columns={"text": "{x}"}).prompts[0].text == "odd"
    assert load_battery(path, columns={"text": "{{{y}}} ="}).prompts[0].text == "{2} ="


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"text": "qestion"}, "unknown column 'qestion'. Did you mean 'question'? Known: all, best, n,"),
        ({"text": "Q: {qestion}"}, "unknown column 'qestion'. Did you mean 'question'?"),
        ({"text": "{question.x}"}, "unknown column 'question.x'"),
        ({"text": "{question"}, "the template '{question' cannot be read"),
        ({"txt": "question"}, "unknown field 'txt'. Did you mean 'text'?"),
        ({"answer": "best"}, "columns must say where the text is"),
    ],
)
def test_a_wrong_mapping_is_named(tmp_path, columns, says):
    with pytest.raises(StudyFileError) as error:
        load_battery(write(tmp_path, "b.jsonl", as_text("jsonl")), columns=columns)
    assert says in str(error.value) and "b.jsonl" in str(error.value)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("b.csv", "text,answer\na,1\nb\n", "line 3: fewer fields than the header has (1, not 2: text, answer)"),
        ("b.tsv", "text\ta\n1\t2\t3\n", "line 2: more fields"),
        ("b.csv", "text,text\na,b\n", "the column 'text' occurs more than once"),
        ("b.csv", 'text\na\n"b\nc\n', "the record that starts at line 3: unexpected end of data"),
        ("b.csv", "text,id\n,x\n", "line 2: the prompt is empty"),
        ("b.csv", "text\n", "has no prompts"),
        ("b.csv", "", "has no prompts"),
        ("b.csv", "question,answer\na,1\n", "no column 'prompt' or 'text' among question, answer. Rename it, or say"),
        ("b.csv", "text,id\na,x\nb,y\nc,x\n", "line 4: the id 'x' occurs more than once (first at line 2)"),
        ("b.csv", "text\ncaf\u00e9\n".encode("latin-1"), "is not UTF-8 text (byte 8). Save it as UTF-8, or in Python"),
        ("b.json", '[{"text": "a"}, 3]', "item 2: got a int, wanted an object"),
        ("b.json", '{"text": "a"}', "got a dict, wanted a list of objects"),
        ("b.json", '[{"text": "a"},\n{', "line 2: not JSON"),
        ("b.jsonl", '{"text": "  "}', "line 1: the prompt is empty"),
        ("b.jsonl", '{"text": "a", "answer": {"b": 1}}', "line 1: 'answer' is a dict, wanted text or a number"),
        ("b.jsonl", '{"text": "a", "aliases": ["b"]}\n{"txt": "c"}', "line 2: unknown field 'txt'"),
    ],
)
def test_a_wrong_file_gives_one_error_with_its_place(tmp_path, name, text, says):
    with pytest.raises(StudyFileError) as error:
        load_battery(write(tmp_path, name, text))
    assert says in str(error.value) and name in str(error.value)


def test_another_encoding_can_be_said(tmp_path):
    path = write(tmp_path, "b.csv", "text\ncaf\u00e9\n".encode("latin-1"))
    assert load_battery(path, encoding="latin-1").prompts[0].text == "caf\u00e9"
    with pytest.raises(StudyFileError, match="there is no encoding 'latin-one'"):
        load_battery(path, encoding="latin-one")
    utf16 = write(tmp_path, "c.csv", "text\na\n".encode("utf-16"))
    with pytest.raises(StudyFileError, match="is not UTF-8 text"):
        load_battery(utf16)
    assert load_battery(utf16, encoding="utf-16").prompts[0].text == "a"


def test_an_empty_column_in_a_template_is_an_error(tmp_path):
    path = write(tmp_path, "b.csv", "body,question\na,b\n,c\n")
    with pytest.raises(StudyFileError, match="line 3: the column 'body', which '{body} {question}' needs, is empty"):
        load_battery(path, columns={"text": "{body} {question}"})


def test_choices_by_index_by_answer_and_by_place(tmp_path):
    path = write(tmp_path, "c.csv", "q,x,y,i,best\none,a,b,0,a\ntwo,c,d,1,d\n")
    columns = {"text": "q", "alternatives": ["x", "y"]}
    told = (ForcedChoice("p0002", "one", ("a", "b"), 0), ForcedChoice("p0003", "two", ("c", "d"), 1))
    assert load_choices(path, columns=columns | {"right": "i"}) == told
    assert load_choices(path, columns=columns | {"answer": "best"}) == told
    # neither is told: the first column is right, and every second item is turned round
    assert [(c.answer, c.right) for c in load_choices(path, columns=columns)] == [("a", 0), ("c", 1)]
    one = write(tmp_path, "d.csv", "id,text,alternatives,right\nk,one,a;b;c,2\n")
    assert load_choices(one, separator=";") == (ForcedChoice("k", "one", ("a", "b", "c"), 2),)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("a;b,2", "right=2 is not the index"),
        ("a;b,x", "right is 'x', wanted the index"),
        ("a;b,-1", "right is '-1', wanted the index"),
        ("a;b,", "right is '', wanted the index"),
        ("a,0", "at least 2"),
    ],
)
def test_a_wrong_choice_is_named(tmp_path, row, says):
    path = write(tmp_path, "c.csv", f"alternatives,right\nu;v,0\n{row}\n")
    with pytest.raises(StudyFileError, match="line 3") as error:
        load_choices(path, separator=";")
    assert says in str(error.value)


def test_an_answer_that_is_no_alternative_is_named(tmp_path):
    path = write(tmp_path, "c.csv", "alternatives,answer\na;b,c\n")
    with pytest.raises(StudyFileError, match="the answer 'c' is none of the alternatives"):
        load_choices(path, separator=";")


def test_pairs_and_questions(tmp_path):
    path = write(tmp_path, "p.csv", "amb,one,two,k,x,y\nthe bank,the muddy bank,the savings bank,word,wet,rich\n")
    columns = {"ambiguous": "amb", "first": "one", "second": "two", "kind": "k", "answers": ["x", "y"]}
    pair = MinimalPair("p0002", "the bank", "the muddy bank", "the savings bank", ("wet", "rich"), "word")
    assert load_pairs(path, columns=columns) == (pair,)
    assert [(p.id, p.text, p.tag) for p in pair.prompts()] == [
        ("p0002/ambiguous", "the bank", "word"),
        ("p0002/first", "the muddy bank", "word"),
        ("p0002/second", "the savings bank", "word"),
    ]
    path = write(tmp_path, "q.csv", "completion,question,answers\nHot is,What is hot?,fire;sun\n")
    (question,) = load_questions(path, separator=";")
    assert question == Question("p0002", "Hot is", "What is hot?", ("fire", "sun"))
    assert question.prompt() == Prompt("p0002/completion", "Hot is", "factual", "fire", aliases=("sun",), unit="p0002")
    assert question.prompt("question").text == "Q: What is hot?\nA:"
    with pytest.raises(UnknownNameError, match="Did you mean 'question'"):
        question.prompt("questions")


def test_labelled_texts(tmp_path):
    path = write(tmp_path, "l.csv", "s,y,g\nup,1,a\ndown,0.5,a\nflat,,b\n")
    both = load_labelled(path, text="s", label="y", group="g", missing="drop")
    assert both == Labelled(("up", "down"), ("1", "0.5"), ("a", "a"), dropped=1) and len(both) == 2
    numbers = load_labelled(path, text="It goes {s}", label="y", numeric=True, missing="drop")
    assert numbers == Labelled(("It goes up", "It goes down"), (1.0, 0.5), ("2", "3"), 1)
    with pytest.raises(StudyFileError, match="line 4: no label in 'y'; give missing=\"drop\""):
        load_labelled(path, text="s", label="y")
    with pytest.raises(StudyFileError, match="line 2: 'g' is 'a', wanted a number"):
        load_labelled(path, text="s", label="g", numeric=True)
    with pytest.raises(StudyFileError, match="unknown column 'z'"):
        load_labelled(path, text="s", label="z")
    with pytest.raises(UnknownNameError, match="Did you mean 'drop'"):
        load_labelled(path, text="s", label="y", missing="drops")
    empty = write(tmp_path, "m.csv", "s,y\na,\nb,\n")
    with pytest.raises(StudyFileError):
        load_labelled(empty, text="s", label="y", missing="drop")


@pytest.mark.parametrize(
    "make",
    [
        lambda: Prompt("x", "text", aliases=("a",)),
        lambda: Question("x", "", "what?", ("a",)),
        lambda: Question("x", "it is", "what?", ()),
        lambda: Question("x", "it is", "what?", ("a", "a")),
        lambda: MinimalPair("x", "a", "b", "b", ("", "")),
        lambda: MinimalPair("x", "a", "b", "c", ("only",)),
        lambda: ForcedChoice("x", "t", ("a",), 0),
        lambda: ForcedChoice("x", "t", ("a", "a"), 0),
        lambda: ForcedChoice("x", "t", ("a", "b"), 2),
    ],
)
def test_records_refuse_what_they_cannot_be(make):
    with pytest.raises(PromptError, match="'x'"):
        make()


TABLE = "prompt,answer{head}\nWhere?,{answer}\n"


def answers_of(tmp_path, head, answer, **how):
    return load_battery(write(tmp_path, "q.csv", TABLE.format(head=head, answer=answer)), **how).prompts[0].accepted


def test_several_answers_in_a_cell_of_a_csv_are_cut_where_the_separator_is_said(tmp_path):
    assert answers_of(tmp_path, "", "Oslo; Christiania", separator=";") == ("Oslo", "Christiania")
    assert answers_of(tmp_path, ",aliases", "Oslo,Christiania|Kristiania", separator="|") == (
        "Oslo",
        "Christiania",
        "Kristiania",
    )
    assert answers_of(tmp_path, ",aliases", "a;b,c;d", separator=";") == ("a;b", "c", "d")  # aliases alone are cut
    assert answers_of(tmp_path, "", '"[""Oslo"", ""a;b""]"', separator="") == ("Oslo", "a;b")  # a list says it itself


@pytest.mark.parametrize(("head", "answer"), [("", "Oslo; Christiania"), (",aliases", "Oslo,Christiania|Kristiania")])
def test_a_cell_that_may_hold_several_answers_is_refused_until_it_is_said(tmp_path, head, answer):
    with pytest.raises(StudyFileError, match=r"q.csv, line 2: the answer '.*' holds .*: one answer or several\?"):
        answers_of(tmp_path, head, answer)
    assert len(answers_of(tmp_path, head, answer, separator="")) == 1 + head.count("aliases")
    assert answers_of(tmp_path, "", "Oslo") == ("Oslo",)
    lines = write(tmp_path, "q.jsonl", '{"prompt": "a", "answer": "x;y"}\n{"prompt": "b", "answer": ["x", "y"]}\n')
    assert [p.accepted for p in load_battery(lines).prompts] == [("x;y",), ("x", "y")]


def test_a_csv_of_semicolons_is_read_and_one_of_commas_keeps_its_semicolons(tmp_path):
    german = write(tmp_path, "de.csv", "\ufeffprompt;answer\r\nWo ist Bonn, Rom?;am Rhein\r\n")
    assert [(p.text, p.answer) for p in load_battery(german).prompts] == [("Wo ist Bonn, Rom?", "am Rhein")]
    usual = write(tmp_path, "en.csv", "prompt,tag\nOne; two?,a;b\n")
    assert [(p.text, p.tag) for p in load_battery(usual).prompts] == [("One; two?", "a;b")]
