"""Ask an instruct model questions by your own `generate` call; answers at which a threshold card alarms are marked.

`python examples/answer_with_a_card.py MODEL CARD [QUESTION ...]`, with a card of your own graded questions (columns
`prompt` and `answer`; forty are the least that gives one, more make it worth something):

    phaselens run --model MODEL --prompts questions.csv --chat --out study
    phaselens calibrate study --after 3 --out card.json
"""

import sys

import phaselens
from phaselens.monitor import Policy, read_card

path, card, *questions = sys.argv[1:]
questions = questions or ["What is the capital of France?", "What is seven times eight?", "Who wrote Macbeth?"]
model, card = phaselens.load(path), read_card(card)
tokenizer, network = model.tokenizer, model.network
mark = Policy("escalate", card=card, callback=lambda alarm: None)  # told, and nothing is done about it

print(f"alarms: {card.rule.score.name}; {'better' if card.beats_baseline else 'no better'} than {card.baseline}")
for question in questions:
    turns = [{"role": "user", "content": question}]
    inputs = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with phaselens.Monitor(model, mark) as monitor:
        ids = network.generate(**inputs, max_new_tokens=32, do_sample=False)
    said = tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()
    told = [f"step {alarm.step}: {alarm.value:.3g}" for alarm in monitor.alarms]
    print(f"{'doubtful' if told else 'no alarm'} | {question} | {said!r} {'; '.join(told)}")
