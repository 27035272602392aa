"""A study without a file: models and prompts in, a declaration with sensible choices out."""

from collections.abc import Sequence
from pathlib import Path

from phaselens.batteries import NATURAL, QUESTIONS, load_battery
from phaselens.errors import InputError
from phaselens.experiments import DEFAULT
from phaselens.organisms import ORGANISM
from phaselens.studies.declaration import Study, validated
from phaselens.studies.declaration_parts import Arm

ONE = ("regimes", "gd", "states", "cycles")  # what one model alone can be asked; the others compare models


def plain_study(
    models: Sequence[str],
    name: str,
    *,
    prompts: str | Path | None = None,
    questions: bool = False,
    chat: bool = False,
    system: str | None = None,
    samples: int = 2,
    grader: str | None = None,
    separator: str | None = None,
) -> Study:
    """The study that `phaselens run --model` stands for: final_norm lens, T = 0.7, no untrained twins.

    `prompts` is a file (`separator` parts the answers in a cell); else the questions, or the battery of the organisms'
    world where all models are of it, or the natural one. One model gets the experiments that say something about one,
    several get the default ones; where the prompts have answers, correctness too, in conversations by the grader
    `contains`. Raises InputError for both prompts and questions, StudyFileError and UnknownNameError as a study would.
    """
    if prompts is not None and questions:
        raise InputError("--prompts and --questions both say what is asked; leave one of them out.")
    bundled = all(model.startswith(ORGANISM) for model in models)
    battery = str(Path(prompts).resolve()) if prompts else QUESTIONS if questions else "world" if bundled else NATURAL
    answers = battery != str(prompts and Path(prompts).resolve()) or any(
        p.answer for p in load_battery(battery, separator=separator).prompts
    )
    experiments = (*(ONE if len(models) == 1 else DEFAULT), *(("correctness",) if answers else ()))
    values = {
        "name": name,
        "models": [m if m.startswith(ORGANISM) or not Path(m).exists() else str(Path(m).resolve()) for m in models],
        "twins": False,
        "battery": battery,
        "arms": [Arm(temperature=0.7, samples=samples)],
        "lenses": ("final_norm",),
        "experiments": tuple(dict.fromkeys(experiments)),
        # An answer in a conversation is a sentence: "It is Paris" does not begin with Paris.
        "grader": grader or ("contains" if chat and answers else None),
        "chat": chat,
        "system": system,
        "separator": separator,
    }
    return validated(values, "--model", "")
