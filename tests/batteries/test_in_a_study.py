"""A study takes the natural battery by its name, and a file of its own by a mapping of columns."""

import pytest

from phaselens.batteries import CATEGORIES, natural_battery
from phaselens.errors import StudyFileError
from phaselens.studies.declaration import read_study
from phaselens.studies.stages.models_and_prompts import battery_of

HEAD = 'name = "x"\nmodels = ["m"]\n'
MAPPED = HEAD + 'battery = "b.csv"\nseparator = ";"\n[columns]\ntext = "Q: {question}\\nA:"\nanswer = "all"\n'


def study(tmp_path, text):
    path = tmp_path / "s.toml"
    path.write_text(text)
    return read_study(path)


def test_the_natural_battery_by_name(tmp_path):
    assert battery_of(study(tmp_path, HEAD + 'battery = "natural"\n')) == natural_battery()
    small = battery_of(
        study(tmp_path, HEAD + 'battery = "natural"\nprompts_per_category = 2\ncalibration_prompts = 6\n')
    )
    assert len(small.prompts) == 12 and tuple(p.category for p in small.calibration) == CATEGORIES


def test_a_file_by_its_columns(tmp_path):
    (tmp_path / "b.csv").write_text("question,all\nwhy,a;b\nwho,c\n")
    declared = study(tmp_path, MAPPED)
    battery = battery_of(declared)
    assert battery.prompts[0].text == "Q: why\nA:" and battery.prompts[0].accepted == ("a", "b")
    (tmp_path / "again.toml").write_text(declared.to_toml())
    assert read_study(tmp_path / "again.toml").hash == declared.hash


@pytest.mark.parametrize("name", ["world", "natural"])
def test_columns_of_a_bundled_battery_are_refused(tmp_path, name):
    with pytest.raises(StudyFileError, match="is no file: columns and separator say nothing about it"):
        study(tmp_path, MAPPED.replace("b.csv", name))
