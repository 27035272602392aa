"""phaselens: measure the internal dynamics of decoder-only language models while they generate.

>>> import phaselens
>>> m = phaselens.load("organism:llama-512")   # or a folder, a Hub id     # doctest: +SKIP
>>> t = phaselens.generate(m, ["Once upon a time"], max_new_tokens=72)     # doctest: +SKIP
>>> trace = phaselens.observe(m, t, lens="final_norm")                     # doctest: +SKIP
>>> trace.to_pandas("layers")                                              # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from phaselens.version import __version__ as __version__

# Names are fetched when they are first used, so that `import phaselens` and reading a trace need no model library.
_HOMES = {
    "load": "phaselens.organisms",
    "Model": "phaselens.models",
    "untrained_twin": "phaselens.models",
    "generate": "phaselens.capture",
    "Sampling": "phaselens.capture",
    "GREEDY": "phaselens.capture",
    "Plan": "phaselens.capture",
    "observe": "phaselens.observing.recording",
    "live": "phaselens.observing.recording",
    "noise_floor": "phaselens.observing.recording",
    "Unembedding": "phaselens.observing.saved_states",
    "measure_states": "phaselens.observing.saved_states",
    "LensSpec": "phaselens.measure.reducer",
    "Trace": "phaselens.trace",
    "read_trace": "phaselens.trace",
    "write_trace": "phaselens.trace",
    "Transcript": "phaselens.trace.transcripts",
    "Transcripts": "phaselens.trace.transcripts",
    "read_jsonl": "phaselens.trace.transcripts",
    "read_transcripts": "phaselens.bridges",
    "Battery": "phaselens.batteries",
    "Prompt": "phaselens.batteries",
    "load_battery": "phaselens.batteries",
    "study": "phaselens",
    "read_study": "phaselens.studies.declaration",
    "run_study": "phaselens.studies",
    "tuned_lens": "phaselens.studies.stages.distribution_controls",
    "analyse_study": "phaselens.studies",
    "Monitor": "phaselens.monitor",
    "probe": "phaselens.cli.probe_workflow",
    "perturb": "phaselens.cli.perturb_workflow",
}

if TYPE_CHECKING:
    from phaselens import study
    from phaselens.batteries import Battery, Prompt, load_battery
    from phaselens.bridges import read_transcripts
    from phaselens.capture import GREEDY, Plan, Sampling, generate
    from phaselens.cli.perturb_workflow import perturb
    from phaselens.cli.probe_workflow import probe
    from phaselens.measure.reducer import LensSpec
    from phaselens.models import Model, untrained_twin
    from phaselens.monitor import Monitor
    from phaselens.observing.recording import live, noise_floor, observe
    from phaselens.observing.saved_states import Unembedding, measure_states
    from phaselens.organisms import load
    from phaselens.studies import analyse_study, run_study
    from phaselens.studies.declaration import read_study
    from phaselens.studies.stages.distribution_controls import tuned_lens
    from phaselens.trace import Trace, read_trace, write_trace
    from phaselens.trace.transcripts import Transcript, Transcripts, read_jsonl

__all__ = [
    "GREEDY",
    "Battery",
    "LensSpec",
    "Model",
    "Monitor",
    "Plan",
    "Prompt",
    "Sampling",
    "Trace",
    "Transcript",
    "Transcripts",
    "Unembedding",
    "analyse_study",
    "generate",
    "live",
    "load",
    "load_battery",
    "measure_states",
    "noise_floor",
    "observe",
    "perturb",
    "probe",
    "read_jsonl",
    "read_study",
    "read_trace",
    "read_transcripts",
    "run_study",
    "study",
    "tuned_lens",
    "untrained_twin",
    "write_trace",
]


def __getattr__(name: str) -> Any:
    """Fetch one of the names above from its home."""
    if name not in _HOMES:
        raise AttributeError(f"module 'phaselens' has no attribute {name!r}; it has {', '.join(sorted(_HOMES))}")
    home = _HOMES[name]
    return import_module(f"{home}.{name}") if home == "phaselens" else getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
