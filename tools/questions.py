"""Graded questions for real models, out of data sets of others that are read where they lie: one JSON Lines battery.

`python tools/questions.py DATA real/questions.jsonl` reads DATA/relations, function-vectors, lambada and winogender and
writes about 1,800 questions: facts and word forms by relation, sums of one to three steps, the last word of a passage,
whom a pronoun means. `text` is a beginning that the answer ends (base models), `question` the same asked (chat). The
category is the relation, the unit what is asked about: all that is asked of France is one unit. Where one answer is
right too often (French, of native languages) only so many of its subjects are drawn. Nothing here looks at a model.
"""

import argparse
import csv
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np

CALIBRATION, WORDS = 0.14, 55
# Category: (file of pairs, beginning that the answer ends, question, how many at most, how many of one answer at most)
RELATIONS = {
    "capital": (
        "function-vectors/abstractive/country-capital",
        "The capital of {} is the city of",
        "What is the capital of {}?",
        130,
        9,
    ),
    "currency": (
        "function-vectors/abstractive/country-currency",
        "The official currency of {} is called the",
        "What is the official currency of {}?",
        110,
        16,
    ),
    "language": (
        "relations/factual/country_language",
        "People in {} speak the language of",
        "Which language do people in {} speak?",
        24,
        24,
    ),
    "landmark country": (
        "relations/factual/landmark_in_country",
        "{} is in the country of",
        "Which country is {} in?",
        110,
        10,
    ),
    "landmark continent": (
        "relations/factual/landmark_on_continent",
        "{} is on the continent of",
        "Which continent is {} on?",
        100,
        30,
    ),
    "native language": (
        "relations/factual/person_native_language",
        "The native language of {} is",
        "What is the native language of {}?",
        90,
        20,
    ),
    "occupation": (
        "relations/factual/person_occupation",
        "By profession, {} is a",
        "What is the profession of {}?",
        80,
        12,
    ),
    "instrument": (
        "relations/factual/person_plays_instrument",
        "The instrument that {} plays is called the",
        "Which instrument does {} play?",
        80,
        25,
    ),
    "sport": (
        "relations/factual/person_plays_pro_sport",
        "{} plays professionally in the sport of",
        "Which sport does {} play?",
        80,
        20,
    ),
    "position": (
        "relations/factual/person_plays_position_in_sport",
        "In their sport, {} plays in the position of a",
        "Which position does {} play in their sport?",
        80,
        14,
    ),
    "product": (
        "relations/factual/product_by_company",
        "{} is a product of the company named",
        "Which company makes {}?",
        90,
        15,
    ),
    "headquarters": (
        "relations/factual/company_hq",
        "The headquarters of {} is in the city of",
        "In which city is the headquarters of {}?",
        60,
        8,
    ),
    "food": (
        "relations/factual/food_from_country",
        "{} originates from the country of",
        "Which country is {} from?",
        30,
        5,
    ),
    "city": ("relations/factual/city_in_country", "{} is located in the country of", "Which country is {} in?", 27, 5),
    "antonym": ("relations/linguistic/adj_antonym", "The opposite of {} is", "What is the opposite of {}?", 100, 3),
    "past tense": (
        "relations/linguistic/verb_past_tense",
        "The past tense of {} is",
        "What is the past tense of {}?",
        76,
        3,
    ),
    "comparative": (
        "relations/linguistic/adj_comparative",
        "The comparative form of {} is",
        "What is the comparative form of {}?",
        68,
        3,
    ),
    "superlative": (
        "relations/linguistic/adj_superlative",
        "The superlative form of {} is",
        "What is the superlative form of {}?",
        80,
        3,
    ),
    "class": (
        "relations/commonsense/object_superclass",
        "A {} is in the category of a",
        "Is a {} an animal, bird, fish, vegetable, flower, or fruit?",
        76,
        16,
    ),
}
SUMS, FORMS = 18, 4  # questions of each number of steps in each of four wordings


def pairs_of(file: Path) -> dict[str, list[str]]:
    """Subject and the answers that the file has for it."""
    data = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
    rows = (
        [(r["subject"], r["object"]) for r in data["samples"]]
        if isinstance(data, dict)
        else [(r["input"], r["output"]) for r in data]
    )
    found: dict[str, list[str]] = {}
    for subject, answer in rows:
        found.setdefault(subject.strip(), []).append(answer.strip())
    return found


def accepted(answers: list[str], category: str) -> list[str]:
    """The answers without what stands in brackets, and of currencies the last word alone: lek of Albanian lek."""
    plain = [re.sub(r"\s*\(.*?\)", "", a).strip() for a in answers]
    if category == "currency":
        plain += [a.split()[-1] for a in plain]
    return list(dict.fromkeys(a for a in plain if a))


def relations(data: Path, rng: np.random.Generator) -> list[dict]:
    rows = []
    for category, (file, begins, asks, most, of_one) in RELATIONS.items():
        seen, pairs = Counter(), pairs_of(data / file)
        subjects = list(pairs)
        taken = 0
        for i in rng.permutation(len(subjects)):
            subject = subjects[i]
            answers = accepted(pairs[subject], category)
            told = any(a.lower() in subject.lower() for a in answers)  # Panama City, Nintendo 64: the question says it
            if taken == most or not answers or told or seen[answers[-1]] == of_one:
                continue
            seen[answers[-1]] += 1
            taken += 1
            text, question = (w.format(subject) for w in (begins, asks))
            rows.append({"text": text, "question": question, "category": category, "answers": answers, "unit": subject})
    return rows


def sums(rng: np.random.Generator) -> list[dict]:
    """Additions and subtractions of one, two and three steps, four wordings each; results from 0 to 60."""
    rows: list[dict] = []
    seen: set[str] = set()
    for steps in (1, 2, 3):
        for form in range(FORMS):
            made = 0
            while made < SUMS:
                first, *others = rng.integers(1, 21, steps + 1).tolist()
                signed = [n if plus else -n for n, plus in zip(others, rng.random(steps) < 0.65, strict=True)]
                partial = np.cumsum([first, *signed])
                said = " ".join([str(first), *(f"{'+' if n > 0 else '-'} {abs(n)}" for n in signed)])
                if partial.min() < 0 or partial.max() > 60 or said in seen:
                    continue
                seen.add(said)
                made += 1
                text, question = _wordings(said, first, signed)[form]
                tag = f"{steps} step{'s' * (steps > 1)}"
                of = {"category": "arithmetic", "answers": [str(partial[-1])], "unit": f"sum {said}", "tag": tag}
                rows.append({"text": text, "question": question, **of})
    return rows


def _wordings(said: str, first: int, signed: list[int]) -> tuple[tuple[str, str], ...]:
    story = " ".join(f"She gets {n} more." if n > 0 else f"She gives {-n} away." for n in signed)
    story = f"Ann has {first} apples. {story}"
    return (
        (f"{said} =", f"What is {said}?"),
        (f"Question: What is {said}?\nAnswer:", f"How much is {said}?"),
        (f"If we calculate {said}, the result is", f"Please calculate {said}."),
        (f"{story} The number of apples that Ann has now is", f"{story} How many apples does Ann have now?"),
    )


def passages(data: Path, rng: np.random.Generator, most: int) -> list[dict]:
    """The last word of passages of LAMBADA that have at most `WORDS`."""
    lines = (data / "lambada/lambada_test.jsonl").read_text(encoding="utf-8").split("\n")
    texts = [json.loads(line)["text"] for line in lines if line]
    short = [t for t in texts if len(t.split()) <= WORDS]
    rows = []
    for i in rng.permutation(len(short))[:most]:
        begins, _, last = short[i].rpartition(" ")
        asks = f"Which single word comes next?\n\n{begins}"
        rows.append({"text": begins, "question": asks, "category": "cloze", "answers": [last], "unit": f"passage {i}"})
    return rows


def pronouns(data: Path, rng: np.random.Generator) -> list[dict]:
    """Whom a pronoun means: two sentences of each pair of people, the pronoun's gender drawn."""
    with (data / "winogender/all_sentences.tsv").open(encoding="utf-8", newline="") as file:
        sentences = {r["sentid"]: r["sentence"] for r in csv.DictReader(file, delimiter="\t")}
    people = {tuple(name.split(".")[:2]) for name in sentences if ".someone." not in name}
    rows = []
    for one, other in sorted(people):
        for right, gender in enumerate(rng.choice(["male", "female", "neutral"], 2)):
            text = sentences[f"{one}.{other}.{right}.{gender}.txt"]
            found = re.search(r"\b(he|she|they|his|her|their|him|them)\b", text)
            word = found[1] if found else "they"
            rows.append(
                {
                    "text": f'{text} Here the word "{word}" means the',
                    "category": "pronoun",
                    "question": f'{text} Whom does the word "{word}" mean?',
                    "answers": [(one, other)[right]],
                    "unit": f"{one} and {other}",
                }
            )
    return rows


def battery(data: Path, seed: int = 0, cloze: int = 90) -> list[dict]:
    """Lines of the battery, short prompts first; a drawn share of the units is set apart for calibration.

    A study runs its prompts in their order, some at a time: those of about one length together are not padded.
    """
    rng = np.random.default_rng(seed)
    rows = relations(data, rng) + sums(rng) + passages(data, rng, cloze) + pronouns(data, rng)
    units = sorted({r["unit"] for r in rows})
    apart = {u for u, x in zip(units, rng.random(len(units)), strict=True) if x < CALIBRATION}
    count: Counter = Counter()
    out = []
    for row in rows:
        first, *others = row.pop("answers")
        row = {"id": f"{row['category'].replace(' ', '-')}-{count[row['category']]:03d}", **row, "answer": first}
        count[row["category"]] += 1
        out.append({**row, **({"aliases": others} if others else {}), "calibration": row["unit"] in apart})
    return sorted((out[i] for i in rng.permutation(len(out))), key=lambda row: len(row["text"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    rows = battery(given.data)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    apart = sum(r["calibration"] for r in rows)
    print(f"{len(rows)} questions about {len({r['unit'] for r in rows})} units, {apart} for calibration: {given.out}")
    print(", ".join(f"{name} {n}" for name, n in Counter(r["category"] for r in rows).most_common()))


if __name__ == "__main__":
    main()
