"""`phaselens calibrate`: from a labelled study to the threshold card that a monitor acts by."""

from pathlib import Path
from typing import Annotated

import typer

from phaselens.cli.run import AsJson
from phaselens.cli.terminal import note, number, print_json, print_table
from phaselens.errors import InputError


def calibrate(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A study whose prompts have answers.")],
    model: Annotated[
        str | None, typer.Option(help="The model, by its name in the study; needed where it has several.")
    ] = None,
    rate: Annotated[float, typer.Option(help="Share of right runs that may alarm.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Seed of the split into halves.")] = 0,
    after: Annotated[
        int, typer.Option(min=0, help="No alarm before this step; a short answer stands in the first three or so.")
    ] = 8,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="CSV, JSONL or Parquet: `run` or `prompt_id`, and `right` (yes or no), instead of the grades."
        ),
    ] = None,
    to_grade: Annotated[
        Path | None,
        typer.Option(help="Write the model's runs with their text as CSV, to fill in `right` for --labels; no card."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where the card goes (default: DIR/card-MODEL.json).")] = None,
    as_json: AsJson = False,
) -> None:
    """Learn a threshold from right and wrong runs, and write a card: score, threshold, rates, the baseline to beat.

    Runs are right by the study's grader, or by your own word: --to-grade FILE, fill in `right`, --labels FILE.
    """
    from phaselens.cli.labels import relabelled, write_to_grade
    from phaselens.monitor.learned_card import learn_card
    from phaselens.monitor.threshold_card import write_card
    from phaselens.studies.panel_columns import panel_of
    from phaselens.studies.store.panel_record import read_record
    from phaselens.trace.transcripts import read_jsonl

    if not 0 < rate < 1:
        raise InputError(f"--rate {rate}: a share of runs lies between 0 and 1.")
    record = read_record(folder)
    panel = panel_of(folder, record, seed=seed, n_boot=2000)
    if to_grade is not None:
        note(
            f"{write_to_grade(panel, folder, record, model, to_grade)} runs: fill in `right`, then --labels {to_grade}"
        )
        return
    if labels is not None:
        panel = relabelled(panel, model, labels)
    transcripts = {unit.model: unit.transcripts for unit in record.units}
    fingerprints = {name: read_jsonl(folder / path).model for name, path in transcripts.items()}
    card = learn_card(panel, fingerprints, model, rate=rate, after=after)
    path = out or folder / f"card-{card.model.replace(':', '-').replace('/', '-')}.json"
    write_card(card, path)
    if as_json:
        print_json({"card": str(path), **card.to_dict()})
        return
    rows = [(name.replace("_", " "), *(number(v[k]) for k in ("value", "lo", "hi"))) for name, v in card.rates.items()]
    side = "above" if card.rule.above else "below"
    print_table(("rate", "value", "lo", "hi"), rows, f"{card.rule.score.name} {side} {card.rule.threshold:.4g}")
    word = "beats" if card.beats_baseline else "does not beat"
    note(f"{path}: this rule {word} its baseline, {card.baseline}.")
