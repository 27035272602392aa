import importlib.util
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "probes.py"


def test_the_benchmark_prints_its_keys_and_agrees_with_scikit_learn(monkeypatch):
    spec = importlib.util.spec_from_file_location("probes_benchmark", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr(script, "EXAMPLES", 240)
    monkeypatch.setattr(script, "WIDTH", 160)
    kept = ("identity", "Gaussian, by class")
    monkeypatch.setattr(script, "CONTROLS", {name: script.CONTROLS[name] for name in kept})
    found = script.measure_probes(10.0, 1e-7, 1, 1)
    assert {"speedup_over_sklearn", "max_coef_difference", "prediction_agreement", "peak_mb"} <= set(found)
    assert found["max_coef_difference"] < 1e-3 and found["prediction_agreement"] > 0.97
    assert found["fits"] == 60 and found["fits_by_sklearn"] == 6
