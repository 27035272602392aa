"""Every error phaselens raises on purpose.

    PhaselensError
    ├── InputError (ValueError)            what the user gave is wrong; the CLI prints it and exits with 2
    │   ├── UnknownNameError               a name that is not in a list; says the nearest ("did you mean")
    │   ├── PromptError                    empty prompt, prompt beyond the context, ids outside the vocabulary
    │   ├── TokenizerError                 no tokenizer, or none that fits
    │   ├── StudyFileError                 a TOML or JSONL file that cannot be read as what it should be
    │   └── OutputError                    a folder that is not writable, full, or belongs to another study
    ├── ModelRefused (ValueError)          a model whose adapter could not be proved; exits with 2
    ├── UnitsError (TypeError)             quantities compared across units that do not compare
    ├── MissingExtra (RuntimeError)        an optional package is needed now; says the install line
    └── StateError (RuntimeError)          something that should hold does not (a trace that fails its own check)

A message says what was got, what was wanted, where, and what to do next.
"""

import difflib
import inspect
from collections.abc import Iterable


class PhaselensError(Exception):
    """Base of every error phaselens raises on purpose."""


class InputError(PhaselensError, ValueError):
    """What the user gave is wrong.

    An option, an argument, a shape or a combination of them. The message says what was wanted; `--help` of the command
    lists its options, and the docstring of a function its shapes and units.
    """


class UnknownNameError(InputError):
    """A name that is not in a list.

    Names of models, presets, experiments, claims, observables, lenses and batteries are fixed; the message gives the
    nearest one and all that are known. Lists: `phaselens organisms list`, `phaselens claims list`, the pages Cards and
    Batteries. A model that is neither bundled nor on disk is looked for on the Hub: check its id, or give a folder.
    """


class PromptError(InputError):
    """A prompt or completion that cannot be run.

    It is empty, longer than the model's context together with the tokens asked for, or holds ids that the model has no
    row for. Shorten the prompt or ask for fewer tokens; for transcripts from elsewhere see that their ids come from
    the same tokenizer as the model.
    """


class TokenizerError(InputError):
    """No tokenizer, or none that fits the model.

    Text needs a tokenizer whose ids the model knows. Give a folder that holds one beside the weights, pass one to
    `phaselens.load`, or give prompts as lists of ids, which need none.
    """


class StudyFileError(InputError):
    """A file that cannot be read as what it should be.

    A study in TOML, prompts or labels in JSONL, CSV or TSV, stored states, or the folder of a study. The message names
    file and line or field. The pages Declare a study, Declare a claim, Bring your transcripts and Batteries list every
    field; a folder must be one that `phaselens run --out` made.
    """


class OutputError(InputError):
    """A place that cannot be written, is full, or belongs to another study.

    A study goes on only in the folder that it was begun in, with the declaration that it was begun with, so that no two
    are mixed. Give another `--out`, make room, or take the changed field back.
    """


class ModelRefused(PhaselensError, ValueError):
    """A model whose adapter could not be proved on load.

    Before anything is measured it is proved that the output of every block is the input of the next, that the lens at
    the last layer gives the model's own logits, that hooks change nothing and that an intervention does. A model that
    fails would give numbers about something else. `phaselens models check MODEL` prints the proof line by line; the
    page Add an architecture says how an override in TOML names blocks, norm or head. Gated models also end here: the
    message says how to get access.
    """


class UnitsError(PhaselensError, TypeError):
    """Quantities compared across units that do not compare.

    Raw entropy over vocabularies of unlike size, noise that is not scaled to the RMS of the layer, tokens as if they
    were independent. The message names the version that compares (`entropy_norm`, matched noise, the prompt as unit).
    """


class MissingExtra(PhaselensError, RuntimeError):
    """An optional package is needed now.

    The message has the line that installs it. Extras: `tables` (Polars, xarray), `report` (figures as PNG), `gguf`
    (GGUF files), `watch` (browser page and API), `plot` (matplotlib), `ray` and `slurm` (engines), `query` (DuckDB),
    `stats` (statsmodels), `probes`, `docs`, `dev`. `phaselens doctor` says which are here.
    """


class StateError(PhaselensError, RuntimeError):
    """Something that should hold does not.

    This is not your mistake. Report it with the output of the same command and `--debug`; the issue form asks for it.
    """


KINDS = tuple(
    kind
    for kind in list(vars().values())
    if isinstance(kind, type) and issubclass(kind, PhaselensError) and kind is not PhaselensError
)
"""Every kind that is raised, in the order of the tree above; each has its section on the page Errors."""


def kind_of(error: PhaselensError) -> type[PhaselensError]:
    """The kind that an error is explained as: its own, or the nearest of `KINDS` that it is."""
    return next((kind for kind in type(error).__mro__ if kind in KINDS), InputError)


def explanation(kind: type[PhaselensError]) -> str:
    """What stands about a kind of error on the page Errors and in `phaselens explain`: when it comes, what to do."""
    return inspect.getdoc(kind) or ""


def missing_extra(what: str, packages: str, extra: str) -> MissingExtra:
    """Word the error for `what` needing `packages` that the `extra` brings, with the line that installs it.

    >>> str(missing_extra("SQL over a trace", "duckdb", "query"))
    "SQL over a trace needs duckdb: pip install 'phaselens[query]'."
    """
    return MissingExtra(f"{what} needs {packages}: pip install 'phaselens[{extra}]'.")


def require_text(text: str, what: str) -> None:
    """Raise PromptError for half a surrogate pair, which is no text: no tokenizer reads it and no file can hold it."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        where = f"U+{ord(text[error.start]):04X} at character {error.start}"
        raise PromptError(f"{what} holds half a surrogate pair ({where}), which is no text.") from None


def unknown_name(kind: str, got: str, known: Iterable[str]) -> UnknownNameError:
    """Word the error for `got`, which is none of the `known` names of this `kind`.

    >>> str(unknown_name("observable", "entropi", ["entropy", "rank"]))
    "unknown observable 'entropi'. Did you mean 'entropy'? Known: entropy, rank."
    """
    known = sorted(known)
    if len(got) > 200:
        return UnknownNameError(f"unknown {kind} {got[:40]!r}... ({len(got):,} characters). Known: {', '.join(known)}.")
    near = difflib.get_close_matches(got, known, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return UnknownNameError(f"unknown {kind} {got!r}.{hint} Known: {', '.join(known)}.")
