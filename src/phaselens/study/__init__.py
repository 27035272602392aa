"""`phaselens.study`: the declaration of a study, read from TOML or made in Python."""

from phaselens.studies.declaration import Arm, Claims, Source, Study, presets, read_claims, read_study
