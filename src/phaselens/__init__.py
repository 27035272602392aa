"""phaselens: measure the internal dynamics of decoder-only language models while they generate.

>>> import phaselens
>>> m = phaselens.load("organism:llama-512")  # or a folder, a Hub id
>>> t = phaselens.generate(m, ["Once upon a time"], max_new_tokens=24)
>>> trace = phaselens.observe(m, t, lens="final_norm")
>>> sorted(trace.to_pandas("layers").groupby("layer").instability.median().index)
[0, 1, 2, 3, 4, 5, 6]
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from phaselens.version import __version__ as __version__

# Names are fetched when they are first used, so that `import phaselens` and reading a trace need no model library.
_NAMES = {
    "phaselens": "study",
    "phaselens.batteries": "Battery Prompt load_battery",
    "phaselens.bridges": "read_transcripts",
    "phaselens.capture": "GREEDY Plan Sampling generate",
    "phaselens.measure.reducer": "LensSpec",
    "phaselens.models": "Model untrained_twin",
    "phaselens.monitor": "Monitor",
    "phaselens.observing.recording": "live noise_floor observe",
    "phaselens.observing.saved_states": "Unembedding measure_states",
    "phaselens.organisms": "load",
    "phaselens.studies": "analyse_study run_study",
    "phaselens.studies.declaration": "read_study",
    "phaselens.studies.stages.distribution_controls": "tuned_lens",
    "phaselens.trace": "Trace read_trace write_trace",
    "phaselens.trace.transcripts": "Transcript Transcripts read_jsonl",
    "phaselens.workflows.perturb_workflow": "perturb",
    "phaselens.workflows.probe_workflow": "probe",
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names.split()}
__all__ = list(_HOMES)

if TYPE_CHECKING:
    from phaselens import study
    from phaselens.batteries import Battery, Prompt, load_battery
    from phaselens.bridges import read_transcripts
    from phaselens.capture import GREEDY, Plan, Sampling, generate
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
    from phaselens.workflows.perturb_workflow import perturb
    from phaselens.workflows.probe_workflow import probe


def __getattr__(name: str) -> Any:
    """Fetch one of the names above from its home."""
    if name not in _HOMES:
        raise AttributeError(f"module 'phaselens' has no attribute {name!r}; it has {', '.join(sorted(_HOMES))}")
    home = _HOMES[name]
    return import_module(f"{home}.{name}") if home == "phaselens" else getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
