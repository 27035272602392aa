"""Cost of a perturbation signature against the bare forward passes that it needs, in CPU time of one run.

L layers x 6 strengths x 16 draws x 32 prompts of matched noise on one organism. What is counted as bare passes: with
the prefix shared, a prompt needs one clean pass of one row, and for every layer l one pass of a batch of all strengths
and draws (5 x 16 changed rows and one of strength 0) from layer l on, with the logits of the generated steps. Exactly
these passes are run once more without a hook, without noise and with nothing measured, so the ratio is what drawing and
adding noise, reading states, gains and KL cost on top. They are not whole passes: against those the signature would
look cheaper than the sharing alone makes it, and that figure stands apart as `cost_over_unshared_passes`. Both take
turns prompt by prompt, so that other work on the machine moves both. Noise of strength 0 is tried at every layer of
every default organism (`identity_max_difference`, exactly 0). Run as `python benchmarks/perturb.py [--quick]`.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import time

import numpy as np
import torch

from phaselens.capture import generate
from phaselens.interventions.signature import SignaturePlan, forward, identity_gap, signature
from phaselens.models import record
from phaselens.models.hooks import begun_at, forms_of
from phaselens.organisms import PROMPT_CATEGORIES, default_names, load, prompts
from phaselens.trace.transcripts import Transcripts

PROMPTS, NEW = 32, 24


def bare(model, transcript, rows: int) -> tuple[float, float]:
    """CPU seconds of the bare passes that one prompt needs, and of as many whole passes."""
    ids, n = torch.tensor([transcript.fed]).expand(rows, -1), transcript.n_generated
    with torch.no_grad(), record(model, clone=True) as taps, forms_of(model.blocks) as forms:
        forward(model, ids, n)
    start = time.process_time()
    with torch.no_grad():
        forward(model, ids[:1], n)
        for layer in range(model.n_layers):
            with begun_at(model, layer, taps.states[layer], forms):
                forward(model, ids, n)
    needed = time.process_time() - start
    start = time.process_time()
    with torch.no_grad():
        forward(model, ids, n)
    return needed, model.n_layers * (time.process_time() - start)


def measure(name: str, n_prompts: int) -> dict:
    """All figures on one organism."""
    model, plan = load(f"organism:{name}"), SignaturePlan(beside=(), substitution=False)
    each = -(-n_prompts // len(PROMPT_CATEGORIES))
    texts = [p.text for c in PROMPT_CATEGORIES for p in prompts(c, each, np.random.default_rng(0))][:n_prompts]
    said = generate(model, texts, max_new_tokens=NEW)
    rows, bares = 1 + len(plan.positive) * plan.draws, []
    signature(model, Transcripts(said.runs[:1]), plan)
    between = []

    def take_turns(done: int, total: int) -> None:
        start = time.process_time()
        bares.append(bare(model, said.runs[done - 1], rows))
        between.append(time.process_time() - start)

    start = time.process_time()
    made = signature(model, said, plan, progress=take_turns)
    ours = time.process_time() - start - sum(between)
    needed, unshared = (sum(column) for column in zip(*bares, strict=True))
    return {
        "cost_over_bare_passes": ours / needed,
        "passes_saved": made.counts.saved,
        "identity_max_difference": max(identity_gap(load(f"organism:{one}")) for one in default_names()),
        "cost_over_unshared_passes": ours / unshared,
        "cpu_s": ours,
        "cpu_s_bare_needed": needed,
        "passes": made.counts.run,
        "passes_unshared": made.counts.unshared,
        "prompts": len(said),
        "layers": model.n_layers,
        "strengths": 1 + len(plan.positive),
        "draws": plan.draws,
        "model": name,
        "threads": torch.get_num_threads(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="4 prompts instead of 32")
    parser.add_argument("--model", default="llama-512")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    print(json.dumps(measure(chosen.model, 4 if chosen.quick else PROMPTS), indent=1))


if __name__ == "__main__":
    main()
