"""PRML manifests: published vectors, round trips, and what a tampered or malformed one gives."""

import pytest

from phaselens.claims import OwnClaim, claims_by_id, registered_own
from phaselens.claims.prml import TamperedManifest, canonical, manifest_of, own_claim, read_manifest, sha256, uuid7
from phaselens.errors import InputError

MINIMAL = {
    "version": "prml/0.1",
    "claim_id": "01900000-0000-7000-8000-000000000000",
    "created_at": "2026-05-01T12:00:00Z",
    "metric": "accuracy",
    "comparator": ">=",
    "threshold": 0.85,
    "dataset": {"id": "imagenet-val-2012", "hash": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
    "seed": 42,
    "producer": {"id": "studio-11.co"},
}
OWN = OwnClaim.model_validate(
    {
        "id": "U1",
        "statement": "Means exceed one \u2013 for every model.",
        "table": "panel",
        "value": "mean_ct",
        "statistic": "mean",
        "unit": "model",
        "comparison": "above",
        "margin": 1,
        "where": {"family": ("a", "b")},
        "controls": [{"name": "twin", "must": "destroy", "where": {"twin": True}}],
    }
)
ABOUT = {
    "created_at": "2026-11-21T12:00:00Z",
    "dataset": "phaselens study mine",
    "dataset_hash": "ab" * 32,
    "seed": 3,
    "producer": "example.org",
}


@pytest.mark.parametrize(
    ("changes", "digest"),
    [
        ({}, "1a3466cc08ee7fb60a726ea1c4db6ecf48a9f847b9b7523bfb54b2ffaefee546"),  # TV-001 of the draft
        ({"threshold": 0.86}, "b96b5b8d613e29d8c28c1cf91c03821b02224c41188c6128743fa2d55639d4bb"),  # TV-003
        (  # TV-005
            {"claim_id": "01900000-0000-7000-8000-000000000002", "producer": {"id": "\u00fcniversite.edu.tr"}},
            "6cf48a868f8f2fec59647d4b8327a27aba7dc219c14ab799ad85398a5aa9e1b6",
        ),
        (  # TV-013: an integer threshold is a float
            {
                "claim_id": "01900000-0000-7000-8000-00000000000a",
                "created_at": "2026-06-01T12:00:00Z",
                "metric": "accuracy_pct",
                "threshold": 90,
                "dataset": {"id": "eval-2k", "hash": "abcd1234" * 8},
                "producer": {"id": "falsify.dev"},
            },
            "cb9683ce70f5d45d407b827d0b9223d342ebd3600c560ec6a9e76dd336bf007d",
        ),
    ],
)
def test_published_vectors(changes, digest):
    assert sha256(canonical(MINIMAL | changes)) == digest
    assert sha256(canonical(dict(reversed((MINIMAL | changes).items())))) == digest


def test_an_own_claim_comes_back_whole():
    made = manifest_of(registered_own(OWN), **ABOUT)
    assert made.values["comparator"] == ">" and made.values["threshold"] == 1.0
    back = read_manifest(made.text, made.hash)
    assert own_claim(back) == OWN and back.claim == registered_own(OWN)


def test_a_registered_claim_is_about_its_verdict():
    made = manifest_of(claims_by_id(["G2"])[0], **ABOUT)
    assert (made.values["metric"], made.values["comparator"]) == ("urn:phaselens:verdict:G2", "==")
    with pytest.raises(InputError, match="registered claim G2"):
        own_claim(read_manifest(made.text))


def test_a_moved_threshold_is_seen():
    made = manifest_of(registered_own(OWN), **ABOUT)
    with pytest.raises(TamperedManifest, match="was changed"):
        read_manifest(made.text.replace("threshold: 1.0", "threshold: 0.9"), made.hash)
    assert read_manifest(made.text, "sha256:" + made.hash.upper()).hash == made.hash


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [", "no YAML"),
        ("- 1\n", "wanted a mapping"),
        ("version: prml/0.1\n", "missing"),
        (canonical(MINIMAL) + "seed: 43\n", "stands twice"),
        (canonical(MINIMAL).replace("0.85", ".inf"), "threshold"),
        (canonical(MINIMAL).replace("prml/0.1", "prml/9"), "version"),
        (canonical(MINIMAL) + "extra: 1\n", "unknown"),
        (canonical(MINIMAL) + 'notes: "a\\u200b\\u2028"\n', "control characters"),
    ],
)
def test_what_is_no_manifest_is_refused(text, says):
    with pytest.raises(InputError, match=says):
        read_manifest(text)


def test_ids_are_version_seven_and_follow_time_and_claim():
    one = uuid7("2026-11-21T12:00:00Z", "a")
    assert (
        one[14] == "7"
        and one[19] in "89ab"
        and one == uuid7("2026-11-21T12:00:00Z", "a") != uuid7("2026-11-21T12:00:00Z", "b")
    )
    assert uuid7("2026-11-21T12:00:01Z", "a") > one
    for wrong in ("yesterday", "2026-13-41T12:00:00Z"):
        with pytest.raises(InputError):
            uuid7(wrong, "a")
