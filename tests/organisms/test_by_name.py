"""A bundled organism opens by name wherever a model is named; any other source goes through unchanged."""

import pytest

import phaselens
from phaselens.errors import UnknownNameError
from phaselens.organisms import names, path, resolve


def test_an_organism_is_its_folder_and_anything_else_is_itself():
    assert resolve(f"organism:{names()[0]}") == str(path(names()[0]))
    assert resolve("some/hub-id") == "some/hub-id"


def test_unknown_organism_says_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'llama-512'"):
        phaselens.load("organism:lama-512")


def test_the_quick_start_of_the_readme():
    m = phaselens.load("organism:llama-512")
    t = phaselens.generate(m, ["Q: Where does Ada live? A:"], max_new_tokens=8, seed=0)
    tr = phaselens.observe(m, t, lens="final_norm")
    steps, layers = tr.to_pandas("steps"), tr.to_pandas("layers")
    assert list(steps["step"]) == list(range(8)) and len(layers) == 8 * (m.n_layers + 1)
    assert layers.groupby("layer")[["instability", "entropy_norm", "kl_to_final"]].median().notna().all().all()
    foreign = phaselens.observe(m, [([1, 45, 7], [12, 9, 3])]).to_pandas("steps")
    assert list(foreign["token"]) == [12, 9, 3] and list(foreign["position"]) == [2, 3, 4]
