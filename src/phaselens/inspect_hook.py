"""A hook of inspect_ai: what a local model did inside while it answered, beside the log and in its samples' metadata.

A hook is not given the tokens that were generated, and must not change the sample that it is handed; so at the end of a
task the log is read, what was said is made tokens again, all samples are observed at once, and the log is written anew.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from phaselens.bridges.formats import right
from phaselens.errors import missing_extra
from phaselens.models import encoder, load
from phaselens.observing.recording import observe
from phaselens.trace import Trace, write_trace
from phaselens.trace.transcripts import Transcript, Transcripts

KEY, UNIT = "phaselens", "trace"


def register(**options: Any) -> None:
    """Register the hook with inspect_ai for this process; `options` are those of `phaselens.observe`.

    Say it in the file of the task. For every task whose model is of the provider `hf`, the folder `LOG.phaselens` then
    holds transcripts and trace, and `sample.metadata["phaselens"]` the run's number there, its tokens and the mean over
    its steps of every observable of the table `steps` (its own units), or why there is none. Other providers are left
    alone. Raises MissingExtra without inspect_ai; errors later on are warnings of inspect_ai, and its log stays.
    """
    try:
        from inspect_ai.hooks import Hooks, SampleStart, TaskEnd, hooks
        from inspect_ai.log import read_eval_log, write_eval_log
        from inspect_ai.model import get_model
    except ModuleNotFoundError as error:
        raise missing_extra("the hook for inspect_ai", "inspect-ai", "inspect") from error

    @hooks(name=KEY, description="hidden dynamics of local models, beside the log")
    class Dynamics(Hooks):
        """Remembers the model of each task; observes when its log is complete."""

        def __init__(self) -> None:
            self.providers: dict[str, object] = {}

        async def on_sample_start(self, data: SampleStart) -> None:
            self.providers[data.eval_id] = get_model().api

        async def on_task_end(self, data: TaskEnd) -> None:
            provider = self.providers.pop(data.eval_id, None)
            if hasattr(provider, "hf_chat") and data.log.location:
                log = read_eval_log(data.log.location, resolve_attachments="full")
                folder = Path(data.log.location.removeprefix("file://")).with_suffix(f".{KEY}")
                found = observe_log(log.samples or [], provider, folder, **options)
                for sample, numbers in zip(log.samples or [], found, strict=True):
                    sample.metadata = {**(sample.metadata or {}), KEY: numbers}
                write_eval_log(log)


def observe_log(samples: Sequence[Any], provider: Any, folder: Path, **options: Any) -> list[dict[str, Any]]:
    """Observe samples of a log by the provider's own network; what goes into each one's metadata, in their order.

    The prompt is what the provider's template and tokenizer made of the last call's messages; the completion is its
    text as tokens, without the end of the turn, which the log does not hold.
    """
    model = load(provider.model, tokenizer=provider.tokenizer)
    split = encoder(model).split
    found: list[dict[str, Any]] = []
    runs: list[Transcript] = []
    for sample in samples:
        call = _call(sample)
        if isinstance(call, str):
            found.append({"reason": call})
            continue
        text, said = provider.hf_chat(call.input, call.tools), sample.output.completion
        asked = provider.tokenizer(text, **provider.tokenizer_call_args)["input_ids"]
        ids = split(text, said)[1]
        score = next(iter((sample.scores or {}).values()), None)
        named: dict = {"prompt_id": str(sample.id), "sample": sample.epoch - 1, "prompt": text, "completion": said}
        grade = None if score is None else right(score.value)
        runs.append(Transcript(len(runs), tuple(asked), tuple(ids), **named, correct=grade))
        found.append({"run": runs[-1].run, "tokens": len(ids)})
    if runs:
        folder.mkdir(parents=True, exist_ok=True)
        transcripts = Transcripts(tuple(runs), {"from": {"inspect_ai": len(runs)}}, model.fingerprint)
        transcripts.write_jsonl(folder / "transcripts.jsonl")
        trace = observe(model, transcripts, **options)
        write_trace(trace, folder, UNIT)
        means = run_means(trace)
        found = [{**f, **means[f["run"]], "trace": folder.name} if "run" in f else f for f in found]
    return found


def _call(sample: Any) -> Any:
    """The call of the model that made the sample's answer, or why there is none to observe."""
    if sample.error is not None or not sample.output.completion:
        return "the sample ended in an error or said nothing"
    calls = [e for e in sample.events if e.event == "model" and e.output.completion == sample.output.completion]
    if not calls:
        return "the log holds no call of the model with this answer"
    return "the answer calls tools" if calls[-1].output.message.tool_calls else calls[-1]


def run_means(trace: Trace) -> dict[int, dict[str, float]]:
    """Mean over the steps of each run of every floating column of `steps`, by run; undefined ones are left out."""
    steps = trace.to_pandas("steps").set_index("run").select_dtypes("floating")
    return {int(run): row.dropna().to_dict() for run, row in steps.groupby("run").mean().iterrows()}
