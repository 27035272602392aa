import pytest

from phaselens.cli import call
from phaselens.dynamics.alarms import Rule, Score
from phaselens.errors import StudyFileError
from phaselens.monitor import Card, read_card, write_card


def test_a_card_is_what_was_written(tmp_path):
    rates = {"hit_rate": {"value": 0.5, "lo": 0.25, "hi": None}}
    card = Card(
        "m", "f" * 64, Rule(Score("instability", 3), 1.25, False), 0.1, rates, "recent surprisal", True, {"n": 3}
    )
    write_card(card, tmp_path / "card.json")
    again = read_card(tmp_path / "card.json")
    assert again.to_dict() == card.to_dict() and again.rule.score == card.rule.score and not again.rule.above
    text = (tmp_path / "card.json").read_text()
    for broken, says in (
        ("{", "cannot be read"),
        ("[]", "no threshold card"),
        (text.replace('"version": 1', '"version": 9'), "version 9"),
        (text.replace('"rule"', '"ruler"'), "broken"),
    ):
        (tmp_path / "bad.json").write_text(broken)
        with pytest.raises(StudyFileError, match=says):
            read_card(tmp_path / "bad.json")


def test_calibrate_without_a_study_or_rate_says_so(tmp_path, capsys):
    assert call(["calibrate", str(tmp_path)]) == 2
    assert call(["calibrate", str(tmp_path), "--rate", "2"]) == 2
    assert "--rate 2" in capsys.readouterr().err
