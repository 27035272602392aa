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
from collections.abc import Iterable


class PhaselensError(Exception):
    """Base of every error phaselens raises on purpose."""


class InputError(PhaselensError, ValueError):
    """What the user gave is wrong."""


class UnknownNameError(InputError):
    """A name that is not in a list."""


class PromptError(InputError):
    """A prompt or completion that cannot be run."""


class TokenizerError(InputError):
    """No tokenizer, or none that fits the model."""


class StudyFileError(InputError):
    """A file that cannot be read as what it should be."""


class OutputError(InputError):
    """A place that cannot be written, is full, or belongs to another study."""


class ModelRefused(PhaselensError, ValueError):
    """A model whose adapter could not be proved on load."""


class UnitsError(PhaselensError, TypeError):
    """Quantities compared across units that do not compare."""


class MissingExtra(PhaselensError, RuntimeError):
    """An optional package is needed now."""


class StateError(PhaselensError, RuntimeError):
    """Something that should hold does not."""


def missing_extra(what: str, packages: str, extra: str) -> MissingExtra:
    """Word the error for `what` needing `packages` that the `extra` brings, with the line that installs it.

    >>> str(missing_extra("SQL over a trace", "duckdb", "query"))
    "SQL over a trace needs duckdb: pip install 'phaselens[query]'."
    """
    return MissingExtra(f"{what} needs {packages}: pip install 'phaselens[{extra}]'.")


def unknown_name(kind: str, got: str, known: Iterable[str]) -> UnknownNameError:
    """Word the error for `got`, which is none of the `known` names of this `kind`.

    >>> str(unknown_name("observable", "entropi", ["entropy", "rank"]))
    "unknown observable 'entropi'. Did you mean 'entropy'? Known: entropy, rank."
    """
    known = sorted(known)
    near = difflib.get_close_matches(got, known, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return UnknownNameError(f"unknown {kind} {got!r}.{hint} Known: {', '.join(known)}.")
