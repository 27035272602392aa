import json
import re
import subprocess
import sys

import numpy as np
import pytest
from tests.tiny_panel import WORDS, save_model
from tests.view.simulated import EVIL, observed, studied

import phaselens
from phaselens.capture import Sampling, generate
from phaselens.cli import call
from phaselens.errors import InputError, StudyFileError, UnknownNameError
from phaselens.observing.recording import observe
from phaselens.trace.store import StoredColumns, write_trace
from phaselens.view.one_run import Lens, Reader
from phaselens.view.page_file import keep
from phaselens.view.run_table import Runs
from phaselens.view.stored_traces import shelf

testclient = pytest.importorskip("starlette.testclient", reason="starlette is not installed (extra watch)")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return studied(tmp_path_factory.mktemp("study"), 3, 20)


@pytest.fixture(scope="module")
def runs(study):
    return Runs(shelf([study]))


@pytest.fixture(scope="module")
def client(runs):
    from phaselens.view.app import make_app

    with testclient.TestClient(make_app(Reader(runs)), base_url="http://127.0.0.1") as found:
        yield found


def places(runs, **asked):
    return runs.chosen({k.replace("is_", "is."): v for k, v in asked.items()}).tolist()


def test_filters_sorting_and_search_choose_the_runs_they_should(runs):
    assert len(runs) == 60 and places(runs) == list(range(60))
    assert places(runs, is_model="other") == list(range(20, 40))
    assert places(runs, is_model="other\x1ftiny", is_calibration="False") == list(range(20, 60))
    assert places(runs, is_correct="True", is_model="other") == [21, 25, 29, 33, 37]
    assert places(runs, q="NEEDLE21") == [21] and places(runs, q='"onerror') == []
    assert places(runs, q="onerror=alert(1)") == [3, 23, 43]
    assert places(runs, where="entropy>18") == [18, 19, 38, 39, 58, 59]
    assert places(runs, where="entropy>18, entropy<19") == [18, 38, 58]
    assert places(runs, sort="-entropy")[:3] == [19, 39, 59]
    assert places(runs, sort="category", is_model="other")[:2] == [20, 22]


def test_a_number_of_a_run_is_the_mean_over_its_defined_steps(runs, study):
    trace = phaselens.read_trace(study / "traces", "u001")
    cells = trace.numpy("layers")
    own = cells["run"] == 4
    assert runs.column("layers.instability")[24] == pytest.approx(np.nanmean(cells["instability"][own]), rel=1e-6)
    last = own & (cells["layer"] == 2)
    assert runs.column("layers.instability@20")[24] == pytest.approx(np.nanmean(cells["instability"][last]), rel=1e-6)
    at = own & (cells["step"] == 3)
    assert runs.column("layers.entropy@s3")[24] == pytest.approx(cells["entropy"][at].mean(), rel=1e-6)
    assert np.isnan(runs.column("layers.instability@s1")).all() and np.isnan(runs.column("layers.entropy@3")).all()
    assert runs.column("entropy")[24] == pytest.approx(4.035)


def test_quantiles_over_runs_are_those_of_the_runs_chosen(runs):
    found = runs.many({"column": "layers.entropy", "axis": "depth", "by": "model", "is.calibration": "False"})
    assert [(g["name"], g["n"]) for g in found["groups"]] == [("other", 20), ("tiny", 20)]
    own = runs.column("layers.entropy@10")[20:40].astype(float)
    told = [line[10] for line in found["groups"][0]["quantiles"]]
    assert told == pytest.approx(np.quantile(own, (0.05, 0.25, 0.5, 0.75, 0.95)).tolist(), rel=1e-5)
    assert found["groups"][0]["quantiles"][2][3] is None and found["groups"][0]["known"][3] == 0
    steps = runs.many({"column": "entropy", "axis": "step"})
    assert [g["name"] for g in steps["groups"]] == ["all runs"] and len(steps["axis"]) == 8


def test_what_cannot_be_asked_is_said(runs, client):
    for asked, words in (({"where": "entropy>much"}, "NAME>NUMBER"), ({"where": "model>3"}, "holds words")):
        with pytest.raises(InputError, match=words):
            runs.chosen(asked)
    with pytest.raises(UnknownNameError, match="entropy"):
        runs.chosen({"sort": "entropi"})
    with pytest.raises(InputError, match="bins 0 to 20"):
        runs.column("layers.entropy@21")
    with pytest.raises(InputError, match="one value per step"):
        runs.many({"column": "entropy", "axis": "depth"})
    assert "no run 60" in client.get("/api/run?run=60").json()["error"]["message"]
    assert client.get("/api/cell?run=0&step=99&layer=0").status_code == 400
    assert client.get("/api/run?run=-1").status_code == 400
    with pytest.raises(StudyFileError, match="not a folder"):
        shelf([runs.units[0].folder / "nowhere"])
    with pytest.raises(StudyFileError, match="no trace"):
        shelf([runs.units[0].folder / "transcripts"])


def test_only_row_groups_that_hold_a_run_are_read(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    run = np.repeat(np.arange(100), 5).astype(np.int32)
    pq.write_table(pa.table({"run": run, "v": np.arange(500.0)}), tmp_path / "x.parquet", row_group_size=50)
    stored = StoredColumns(tmp_path / "x.parquet", ("run", "v"))
    assert stored.of_run(37, ["v"])["v"].tolist() == list(range(185, 190))
    assert stored.of_run(100, ["v"])["v"].tolist() == []


def test_one_run_is_what_the_trace_holds(client, study):
    found = client.get("/api/run?run=23&cells=instability").json()
    trace = phaselens.read_trace(study / "traces", "u001")
    cells = trace.numpy("layers")
    own = cells["instability"][cells["run"] == 3].reshape(8, 3)
    assert np.allclose(np.array(found["cells"]["instability"], float), own, rtol=1e-5, equal_nan=True)
    assert found["cells"].keys() == {"instability"} and found["cells"]["instability"][0] == [None] * 3
    assert found["prompt"] == "Prompt 23" and EVIL in found["completion"] and found["title"]["model"] == "other"
    assert found["layers"] == [0, 1, 2] and len(found["states"]["cells"]) == 8
    cell = client.get("/api/cell?run=23&step=4&layer=1").json()
    assert cell["values"]["instability"] == pytest.approx(own[4, 1], rel=1e-5) and cell["top"] is None


def test_any_folder_with_traces_is_a_shelf(tmp_path, study):
    folder = observed(tmp_path / "mine", 5)
    found = shelf([folder, study])
    assert [u.model for u in found] == ["tiny", "tiny", "other", "tiny"]
    runs = Runs(found)
    assert len(runs) == 65 and Reader(runs).run(0)["pieces"][0].startswith((" w", "<img"))
    (folder / "transcripts.jsonl").unlink()
    bare = Reader(Runs(shelf([folder]))).run(2)
    assert bare["prompt"] == "" and bare["completion"] is None and len(bare["token"]) == 8
    assert Runs(shelf([folder])).page({"q": "needle"})["n"] == 0


def test_the_lens_of_a_model_reads_the_replayed_run(tmp_path):
    model = phaselens.load(save_model(tmp_path / "m", words=WORDS, context=64, layers=2))
    said = generate(model, ["a b c", "d e"], max_new_tokens=6, sampling=Sampling(1.0), seed=3)
    trace = observe(model, said)
    write_trace(trace, tmp_path / "out", "trace")
    said.write_jsonl(tmp_path / "out" / "transcripts.jsonl")
    reader = Reader(Runs(shelf([tmp_path / "out"])), Lens(model))
    steps = trace.numpy("steps")
    last = int(trace.numpy("layers")["layer"].max())
    for i in np.flatnonzero(steps["run"] == 1):
        top = reader.cell(1, int(steps["step"][i]), last)["top"]
        assert top[0]["p"] == pytest.approx(steps["top1"][i], rel=1e-4) and len(top) == 10
        assert [one["p"] for one in top] == sorted((one["p"] for one in top), reverse=True)
    other = Reader(Runs(shelf([observed(tmp_path / "other", 2)])), Lens(model))
    assert other.cell(0, 1, 1)["top"] is None and not other.run(0)["lens"]


def test_a_page_kept_holds_its_runs_and_runs_nothing_else(runs, tmp_path):
    text = keep(Reader(runs), [3, 21, 3], tmp_path / "page.html").read_text()
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1]
    held = json.loads(data)
    assert [run["run"] for run in held["runs"]] == [3, 21] and EVIL in held["runs"][0]["completion"]
    assert EVIL not in text and text.count("<script") == 2
    assert "script-src 'sha256-" in text and "unsafe" not in text and "connect-src 'none'" in text
    with pytest.raises(InputError, match="1 to 50"):
        keep(Reader(runs), [], tmp_path / "none.html")
    with pytest.raises(InputError, match="no run 99"):
        keep(Reader(runs), [99], tmp_path / "none.html")


def test_the_command_keeps_runs_and_says_what_is_wrong(study, tmp_path, capsys):
    page = tmp_path / "kept.html"
    assert call(["view", str(study), "--export", str(page), "--runs", "1, 22"]) == 0
    assert page.is_file() and capsys.readouterr().out.strip() == str(page)
    assert call(["view", str(study), "--export", str(page)]) == 2
    assert call(["view", str(study), "--export", str(page), "--runs", "one"]) == 2
    assert call(["view", str(tmp_path / "nothing")]) == 2
    assert call(["view", str(study), "--host", "0.0.0.0"]) == 2
    assert "token is needed" in capsys.readouterr().err


def test_stored_runs_are_read_without_a_model_library(study):
    code = f"""
import sys
from pathlib import Path
from phaselens.view.run_table import Runs; from phaselens.view.stored_traces import shelf
from phaselens.view.one_run import Reader
runs = Runs(shelf([Path({str(study)!r})])); runs.page({{}}); Reader(runs).run(3, ["instability"])
assert not {{"torch", "transformers"}} & set(sys.modules), "a model library was imported"
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_server_beyond_loopback_wants_its_token(runs):
    from phaselens.view.app import make_app
    from phaselens.web.server import door_of

    app = make_app(Reader(runs), door_of("0.0.0.0", "a-token-long-enough"))
    with testclient.TestClient(app, base_url="http://elsewhere") as client:
        assert client.get("/").status_code == 200 and "needle" not in client.get("/").text
        assert client.get("/api/runs").status_code == 401
        given = {"Authorization": "Bearer a-token-long-enough"}
        assert client.get("/api/runs", headers=given).json()["n"] == 60
    with testclient.TestClient(make_app(Reader(runs)), base_url="http://elsewhere") as client:
        assert client.get("/api/runs").status_code == 403
