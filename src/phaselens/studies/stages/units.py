"""Units of work: what each depends on, hashed to its name. Present on disk means done."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from phaselens.batteries import Prompt
from phaselens.capture.plan import Plan
from phaselens.capture.sampling import Sampling
from phaselens.studies.declaration import Arm, Study
from phaselens.studies.stages.models_and_prompts import PAIR_TOKENS, Member
from phaselens.trace.store import digest
from phaselens.version import versions

# Prompts of a unit. Where a model would have more than so many units of an arm, a unit holds more of them, up to so
# many tokens: file systems and listings feel files before they feel bytes.
SLICE, UNITS, TOKENS = 24, 1000, 1 << 16
NAME_LENGTH = 20


@dataclass(frozen=True)
class Unit:
    """The generations of one model, one slice of the prompts and one sampling arm; `key` names its transcripts.

    `paired` marks the prompts of minimal pairs, which are generated from greedily, `tokens` long, like all others.
    """

    member: str
    prompts: tuple[Prompt, ...]
    sampling: Sampling
    samples: int
    calibration: bool
    key: str
    tokens: int
    paired: bool = False

    @property
    def name(self) -> str:
        """The start of the key: the name of the file."""
        return self.key[:NAME_LENGTH]


def sampling_of(study: Study, arm: Arm) -> Sampling:
    """The sampler of an arm of the study."""
    return Sampling(arm.temperature, arm.top_p, arm.top_k, study.suppress_eos)


def units_of(
    study: Study,
    member: Member,
    measured: Sequence[Prompt],
    calibration: Sequence[Prompt],
    pairs: Sequence[Prompt] = (),
) -> tuple[Unit, ...]:
    """All units of one model: calibration prompts under the first arm once, every arm and slice, minimal pairs."""
    first = sampling_of(study, study.arms[0])
    tokens = study.max_new_tokens
    out = [_unit(study, member, part, first, 1, True) for part in slices(calibration, tokens)]
    for arm in study.arms:
        parts = slices(measured, tokens * arm.samples)
        out += [_unit(study, member, part, sampling_of(study, arm), arm.samples, False) for part in parts]
    greedy = Sampling(0.0, suppress_eos=study.suppress_eos)
    some = slices(pairs, PAIR_TOKENS)
    out += [_unit(study, member, part, greedy, 1, calibration=False, pair_tokens=PAIR_TOKENS) for part in some]
    return tuple(out)


def slices(prompts: Sequence[Prompt], tokens: int) -> list[tuple[Prompt, ...]]:
    """Prompts, of which each gives so many tokens, in parts of equal size but for the last."""
    size = max(SLICE, min(-(-len(prompts) // UNITS), TOKENS // tokens))
    return [tuple(prompts[i : i + size]) for i in range(0, len(prompts), size)]


def _unit(
    study: Study,
    member: Member,
    prompts: tuple[Prompt, ...],
    sampling: Sampling,
    samples: int,
    calibration: bool,
    pair_tokens: int = 0,
) -> Unit:
    tokens = pair_tokens or study.max_new_tokens
    depends: dict[str, object] = {
        "what": "transcripts",
        "model": member.facts["fingerprint"],
        "attention": member.facts["attention"],
        "device": study.device,
        "prompts": [asdict(prompt) for prompt in prompts],
        "sampling": sampling.to_dict(),
        "samples": samples,
        "seed": study.seed,
        "max_new_tokens": tokens,
        "batch_size": study.batch_size,
        "versions": versions(),
    }
    if study.chat or any(prompt.messages for prompt in prompts):
        depends["chat"] = {"system": study.system, "template": member.facts["chat_template"]}
    key, paired = digest(depends), pair_tokens > 0
    return Unit(member.label, prompts, sampling, samples, calibration, key=key, tokens=tokens, paired=paired)


def trace_key(unit: Unit, plan: Plan, study: Study, fitted: str = "") -> str:
    """The key of the trace of `unit` under `plan`; `fitted` is that of the calibrated normalisations ("": none)."""
    depends = {"what": "trace", "transcripts": unit.key, "plan": plan.canonical(), "chunk": plan.chunk}
    depends |= {"normalisations": fitted} if fitted else {}
    depends |= {"grader": study.grader} if study.grader else {}
    return digest(depends | {"batch_size": study.batch_size, "versions": versions()})


def calibration_key(units: Sequence[Unit]) -> str:
    """The key of the calibration of one model, from its calibration units."""
    return digest({"what": "calibration", "transcripts": [unit.key for unit in units], "versions": versions()})


def transcript_path(folder: Path, unit: Unit) -> Path:
    """Where the transcripts of `unit` stand."""
    return folder / "transcripts" / f"{unit.name}.jsonl"


def normalisation_key(study: Study, units: Sequence[Unit]) -> str:
    """The key of the calibrated normalisations of one model, from its calibration units; "" where none are wanted."""
    if not study.normalisations:
        return ""
    wanted = {"what": "normalisations", "methods": list(study.normalisations)}
    return digest(wanted | {"transcripts": [unit.key for unit in units if unit.calibration], "versions": versions()})
