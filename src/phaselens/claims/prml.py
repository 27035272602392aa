"""Claims as manifests of the PRML draft 0.1 (falsify.dev): one YAML file with a SHA-256 over its canonical bytes.

The draft binds one metric, comparator and threshold to a data hash and a seed. A claim says more (controls, nulls, the
family), so the whole claim stands in `metric_args` as canonical JSON and is covered by the hash. The metric is the
claim's own number where one bound decides it, and else the verdict: 1 if supported, 0 if not. The draft fixes
one claim at a time and does not ask for failures to be published; the ledger does.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import yaml

from phaselens.claims.ledger import lock
from phaselens.claims.own_claims import OwnClaim, RegisteredOwn
from phaselens.claims.verdict_records import Claim
from phaselens.errors import InputError

VERSION = "prml/0.1"
NEEDED = ("version", "claim_id", "created_at", "metric", "comparator", "threshold", "dataset", "seed", "producer")
OPTIONAL = ("metric_args", "model", "code", "prior_hash", "notes")
COMPARATORS = (">=", ">", "==", "<=", "<")
FORBIDDEN = re.compile("[\u0000-\u001f\u007f-\u009f\u2028\u2029\ufeff]")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


class TamperedManifest(InputError):
    """A manifest whose bytes do not give the hash that was published beside it."""


@dataclass(frozen=True)
class Manifest:
    """The text of a manifest, its hash, and the claim in it (None: it was not written by phaselens)."""

    text: str
    hash: str
    values: Mapping[str, Any]
    claim: Claim | None


def manifest_of(
    claim: Claim, *, created_at: str, dataset: str, dataset_hash: str, seed: int, producer: str, study: str = ""
) -> Manifest:
    """The manifest of a claim about one study.

    `dataset_hash` is the hash of the study's declaration: its models, prompts, sampling and seed, in canonical JSON.
    Raises InputError for a time that is not RFC 3339 in UTC, or characters that the draft forbids.
    """
    metric, comparator, threshold = _bound(claim)
    values: dict[str, Any] = {
        "version": VERSION,
        "claim_id": uuid7(created_at, lock([claim])),
        "created_at": created_at,
        "metric": metric,
        "comparator": comparator,
        "threshold": threshold,
        "dataset": {"id": dataset, "hash": dataset_hash},
        "seed": seed,
        "producer": {"id": producer},
        "metric_args": {"claim": json.dumps(claim.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))},
        "notes": f"{claim.id}: {claim.statement}" + (f" (study {study})" if study else ""),
    }
    text = canonical(values)
    return Manifest(text, sha256(text), values, claim)


def _bound(claim: Claim) -> tuple[str, str, float]:
    """Metric, comparator and threshold of a claim."""
    rule = claim.rule if isinstance(claim, RegisteredOwn) else None
    if rule is None:
        return f"urn:phaselens:verdict:{claim.id}", "==", 1.0
    place = f"{rule.statistic}:{rule.table}:{rule.value}"
    if rule.comparison in ("above", "below"):
        return f"urn:phaselens:{place}", ">" if rule.comparison == "above" else "<", float(rule.margin)
    return f"urn:phaselens:distance:{place}", "<" if rule.comparison == "inside" else ">", float(rule.margin)


def canonical(values: Mapping[str, Any]) -> str:
    """Canonical YAML of the draft: block style, sorted keys, two spaces, LF; the same values give the same bytes.

    Raises InputError for what the draft does not allow.
    """
    _check(values)
    return yaml.safe_dump(
        {**values, "threshold": float(values["threshold"])},
        sort_keys=True,
        default_flow_style=False,
        allow_unicode=True,
        width=2**31,
    )


def sha256(text: str) -> str:
    """Hex SHA-256 of the UTF-8 bytes."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def read_manifest(text: str, published: str | None = None) -> Manifest:
    """A manifest from its text; `published` is the hash that was made public before the data.

    Raises InputError for something that is no manifest of the draft, TamperedManifest where the hash is another.
    """
    try:
        values = yaml.load(text, Loader=_Strict)
    except yaml.YAMLError as error:
        raise InputError(f"not a PRML manifest: no YAML ({str(error).splitlines()[0]}).") from error
    _check(values)
    found = sha256(canonical(values))
    if published is not None and published.strip().lower().removeprefix("sha256:") != found:
        raise TamperedManifest(
            f"the manifest was changed: its canonical bytes give {found[:16]}, published was {published.strip()[:16]}."
        )
    return Manifest(text, found, values, _claim_in(values))


def _claim_in(values: Mapping[str, Any]) -> Claim | None:
    """The claim that a manifest of ours carries."""
    said = (values.get("metric_args") or {}).get("claim")
    if not isinstance(said, str):
        return None
    try:
        row = json.loads(said)
        return (RegisteredOwn if "rule" in row else Claim).model_validate(row)
    except ValueError as error:  # of JSON and of pydantic
        raise InputError(f"the claim inside the manifest cannot be read: {str(error).splitlines()[0]}.") from error


def own_claim(manifest: Manifest) -> OwnClaim:
    """The declaration of a user's claim in a manifest, to be written as TOML.

    Raises InputError where the manifest carries none.
    """
    if not isinstance(manifest.claim, RegisteredOwn):
        what = (
            f"the registered claim {manifest.claim.id}" if manifest.claim else f"the metric {manifest.values['metric']}"
        )
        raise InputError(f"this manifest is about {what} and carries no declaration over the tables of a study.")
    return manifest.claim.rule


class _Strict(yaml.SafeLoader):
    """The safe loader, but a key that stands twice is an error, and a time stays text."""


def _mapping(loader: _Strict, node: yaml.MappingNode, deep: bool = False) -> dict:
    keys = [loader.construct_object(key, deep=deep) for key, _ in node.value]
    for key in keys:
        if keys.count(key) > 1:
            raise InputError(f"not a PRML manifest: the key {key!r} stands twice.")
    return yaml.SafeLoader.construct_mapping(loader, node, deep)


_Strict.add_constructor("tag:yaml.org,2002:map", _mapping)
_Strict.add_constructor("tag:yaml.org,2002:timestamp", cast(Any, _Strict.construct_scalar))


def _check(values: Any) -> None:
    """Raise InputError for values that are no manifest of the draft; says which key."""
    if not isinstance(values, Mapping):
        raise InputError("not a PRML manifest: wanted a mapping.")
    missing = [key for key in NEEDED if key not in values]
    strange = [key for key in values if key not in (*NEEDED, *OPTIONAL)]
    if missing or strange:
        raise InputError(f"not a PRML manifest: missing {missing}, unknown {strange}.")
    rules = {
        "version": values["version"] == VERSION,
        "created_at": isinstance(values["created_at"], str) and TIME.fullmatch(values["created_at"]) is not None,
        "comparator": values["comparator"] in COMPARATORS,
        "threshold": _number(values["threshold"]),
        "dataset": isinstance(values["dataset"], Mapping) and {"id", "hash"} <= set(values["dataset"]),
        "seed": isinstance(values["seed"], int) and 0 <= values["seed"] < 2**64,
        "producer": isinstance(values["producer"], Mapping) and "id" in values["producer"],
    }
    for key, fine in rules.items():
        if not fine:
            raise InputError(f"not a PRML manifest: {key} is {values[key]!r}.")
    _check_text(values)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < float("inf")


def _check_text(value: Any) -> None:
    """Raise InputError for characters that two readers would hash differently."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _check_text(key)
            _check_text(inner)
    elif isinstance(value, str) and (FORBIDDEN.search(value) or not unicodedata.is_normalized("NFC", value)):
        raise InputError(f"not a PRML manifest: control characters or text that is not NFC in {value[:40]!r}.")


def uuid7(created_at: str, seed: str) -> str:
    """A UUID of version 7 from a time in UTC and a hash: the same claim at the same time has the same id.

    Raises InputError where the time has another form than 2026-05-18T11:00:00Z.
    """
    from datetime import datetime

    if not TIME.fullmatch(created_at):
        raise InputError(f"the time {created_at!r} must have the form 2026-05-18T11:00:00Z.")
    try:
        milliseconds = int(datetime.fromisoformat(created_at).timestamp() * 1000)
    except ValueError as error:
        raise InputError(f"{created_at!r} is no time: {error}.") from error
    random = int(hashlib.sha256(seed.encode()).hexdigest(), 16)
    bits = (milliseconds << 80) | (7 << 76) | ((random & 0xFFF) << 64) | (2 << 62) | ((random >> 12) & (2**62 - 1))
    text = f"{bits:032x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
