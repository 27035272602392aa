"""One study on every engine: the same bytes, whoever is killed on the way; the folder alone says what is missing."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
from tests.engines.stalling import SIGN, Stalling, awaited
from tests.tiny_panel import save_study

from phaselens.engines import engine_named
from phaselens.engines.engine import Done, Queue, by_cards
from phaselens.engines.local_processes import LocalEngine
from phaselens.engines.slurm import SlurmEngine, parts
from phaselens.errors import InputError, MissingExtra, ModelRefused, OutputError, StateError, UnknownNameError
from phaselens.studies import run_study, worker
from phaselens.studies.cost_estimate import shape_of
from phaselens.studies.declaration import read_study
from phaselens.studies.stages.models_and_prompts import candidates
from phaselens.studies.store.location import Place
from phaselens.studies.store.verify import problems
from phaselens.studies.worker import Unit, Worker, need_of, work_part

COMMAND = [sys.executable, "-c", "from phaselens.cli import main; main()"]
SRC = str(Path(__file__).parents[2] / "src")


def files(folder: Path) -> dict[str, bytes]:
    """Everything in a study folder but the diary and the page; temporary files too, so that none is left."""
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
    return {name: data for name, data in found.items() if name not in ("log.jsonl", "report.html")}


def done_units(folder: Path) -> list[tuple]:
    """Units that the diary says were made (not passed over), by stage and model."""
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [(r["what"], r["model"]) for r in rows if r.get("skipped") is False]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    place = tmp_path_factory.mktemp("engines")
    return read_study(save_study(place / "in", twins=False, experiments=["regimes"]))


@pytest.fixture(scope="module")
def whole(study, tmp_path_factory) -> Path:
    """The folder of that study, done by one process."""
    out = tmp_path_factory.mktemp("whole") / "out"
    run_study(study, out)
    return out


# --- units and the queue ---


def test_a_unit_survives_its_way_and_a_changed_one_is_refused():
    unit = Unit("observe", "m", 3, ("traces/a.runs.parquet",), "calibration/x.lenses.json", 1e9)
    assert Unit.from_json(unit.to_json()) == unit
    with pytest.raises(OutputError, match="changed on its way"):
        Unit.from_json(unit.to_json().replace("traces/a", "traces/b"))
    done = Done("k", 5, 1.5, False, {"layers": 3}, "", False, "half the batch")
    assert Done.from_json(done.to_json()) == done


def test_whoever_holds_a_model_gets_its_next_unit_and_others_spread_out():
    queue = Queue([Unit("generate", m, i) for m in "abc" for i in range(2)])
    first, second = queue.take(None), queue.take(None)
    assert {first.model, second.model} == {"a", "b"}
    assert queue.take(first.model).model == first.model
    assert queue.take(first.model).model == "c"  # nothing is left of its own
    queue.drop("c")
    assert queue.take("c").model == second.model and queue.take("c") is None


def test_parts_of_an_array_hold_every_unit_once_and_models_together():
    units = [Unit("generate", m, i) for i in range(5) for m in "ab"]
    made = parts(units, 4)
    assert sorted(u.key for part in made for u in part) == sorted(u.key for u in units)
    assert all(len(part) in (2, 3) for part in made) and [u.model for u in made[0]] == ["a", "a"]
    assert len(parts(units[:2], 8)) == 2


def test_units_go_to_as_many_cards_as_their_model_needs():
    units = [Unit("observe", m, i, need=n) for i in range(2) for m, n in (("s", 3e9), ("m", 20e9), ("l", 150e9))]
    tenths = by_cards(units, 24e9, 10)
    assert [share for share, _ in tenths] == [7, 0.9, 0.2]
    assert all({u.model for u in some} == {m} for (_, some), m in zip(tenths, "lms", strict=True))
    whole = by_cards([*units, Unit("load", "s", 0)], 24e9)  # what is not known takes what its model is known to need
    assert [(share, len(some)) for share, some in whole] == [(7, 2), (1, 5)]
    assert by_cards([Unit("load", "x", 0)], 24e9, 10)[0][0] == 0.1 and by_cards(units, float("inf"))[0][0] == 1


def test_a_model_larger_than_a_card_gets_a_worker_of_several(monkeypatch):
    engine, asked = LocalEngine(devices=("0", "1", "2", "3", "5"), card=24e9), []
    monkeypatch.setattr(engine, "_run", lambda some, root, hear: asked.append((engine._places, len(some))))
    engine.run([Unit("load", m, 0, need=n) for m, n in (("a", 1e9), ("b", 40e9), ("c", 1e12))], "x", print)
    assert asked == [(["0,1,2,3,5"], 1), (["0,1", "2,3"], 1), (["0", "1", "2", "3", "5"], 1)]


def test_an_engine_that_places_by_need_hears_what_every_unit_needs(study, tmp_path):
    class Refuses:
        by_need = True

        def run(self, units, root, hear):
            asked.extend(units)
            for unit in units:
                hear(Done(unit.key, error="no"))

        def close(self):
            pass

    asked: list[Unit] = []
    with pytest.raises(ModelRefused):
        run_study(study, tmp_path / "out", engine=Refuses())
    assert {u.stage for u in asked} == {"load"}
    for member in candidates(study):
        shape = shape_of(member.source)
        need = next(u.need for u in asked if u.model == member.label)
        assert need > 4 * shape.parameters  # weights, and what passes hold
        assert need == need_of(study, replace(member, facts=vars(shape)))  # the same once it is loaded


def test_names_and_missing_extras(monkeypatch):
    with pytest.raises(UnknownNameError, match="unknown engine 'rai'. Did you mean 'ray'"):
        engine_named("rai")
    for name, package in (("ray", "ray"), ("slurm", "submitit")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(MissingExtra, match=rf"needs {package}: pip install 'phaselens\[{name}\]'"):
            engine_named(name)


class Clusters:
    """A Ray without a cluster: it answers at `local` alone."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def is_initialized(self) -> bool:
        return False

    def init(self, address, **_) -> None:
        self.asked.append(address)
        if address != "local":
            raise ConnectionError("nothing answers")


def test_ray_without_a_cluster_is_started_here_and_said_and_another_address_is_an_error(monkeypatch, caplog):
    ray = Clusters()
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    engine_named("ray")
    assert ray.asked == ["auto", "local"] and "no Ray cluster here" in caplog.text
    with pytest.raises(InputError, match="no Ray cluster answers at 'ray://head:10001': nothing answers"):
        engine_named("ray", address="ray://head:10001")
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    with pytest.raises(InputError, match="no Ray cluster answers at 'auto'"):
        engine_named("ray")


# --- processes of this machine ---


def test_two_processes_give_the_bytes_of_one(study, whole, tmp_path):
    run_study(study, tmp_path / "out", engine=LocalEngine(2))
    assert files(tmp_path / "out") == files(whole)


def ended(sign: Path, how) -> tuple[threading.Thread, list]:
    """Ends whoever stands still, once: `how(pid, node)`. The thread, and what was ended."""
    done: list = []

    def end() -> None:
        pid, place = awaited(sign)
        how(pid, place)
        done.append((pid, place))

    thread = threading.Thread(target=end, daemon=True)
    thread.start()
    return thread, done


def test_a_worker_killed_in_mid_unit_is_made_up_for(study, whole, tmp_path):
    thread, done = ended(tmp_path / SIGN, lambda pid, _: os.kill(pid, signal.SIGKILL))
    run_study(study, tmp_path / "out", engine=Stalling(LocalEngine(2)))
    thread.join()
    assert done and files(tmp_path / "out") == files(whole)


def test_a_unit_that_kills_every_worker_is_named_after_three_times(study, tmp_path, monkeypatch):
    real = worker.make_traces

    def dies(work, member, *rest):
        if member.label == "gpt21":
            os.kill(os.getpid(), signal.SIGKILL)
        real(work, member, *rest)

    monkeypatch.setattr(worker, "make_traces", dies)
    outcome = run_study(study, tmp_path / "out", engine=LocalEngine(2))
    assert [row["model"] for row in outcome.panel] == ["llama0"]
    (failed,) = outcome.failed
    assert (
        failed["model"] == "gpt21"
        and "was asked for 3 times and is not there: its worker was killed" in failed["reason"]
    )


def test_a_killed_driver_goes_on_to_the_same_bytes(study, whole, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside the threads of the test runner
        driver = os.fork()
    if driver == 0:
        try:
            run_study(study, tmp_path / "out", engine=Stalling(LocalEngine(2)))
        finally:
            os._exit(0)
    worker_pid, _ = awaited(tmp_path / SIGN)
    assert worker_pid != driver
    os.kill(driver, signal.SIGKILL)
    os.waitpid(driver, 0)
    until = time.monotonic() + 60
    while alive(worker_pid) and time.monotonic() < until:
        time.sleep(0.02)
    assert not alive(worker_pid)  # workers die with their driver
    run_study(study, tmp_path / "out", engine=LocalEngine(2))
    assert files(tmp_path / "out") == files(whole)


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended and that nobody asked after does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_worker_of_another_version_is_refused(study, whole, tmp_path, monkeypatch):
    import shutil

    from phaselens.studies.stages import units

    out = Path(shutil.copytree(whole, tmp_path / "out"))
    made = Worker(str(out))
    member = made.known("llama0")
    unit = next(u for u in worker.units_of_stage(made.work, "generate", [member], {}))
    (out / unit.files[0]).unlink()
    monkeypatch.setattr(units, "versions", lambda: {"transformers": "4.0"})
    said = Worker(str(out)).do(unit)
    assert said.fatal and "would name the files of generate" in said.error and "Give all one environment" in said.error
    assert not (out / unit.files[0]).exists()
    monkeypatch.undo()
    assert not Worker(str(out)).do(unit).error and files(out) == files(whole)


def test_memory_that_runs_out_is_met_by_half_the_batch_once(study, whole, tmp_path, monkeypatch):
    import torch

    from phaselens.studies.stages import traces

    real, asked = traces.generate, []

    def short(model, prompts, *, batch_size, **given):
        asked.append(batch_size)
        if batch_size > 32:
            raise torch.OutOfMemoryError("out of memory")
        return real(model, prompts, batch_size=batch_size, **given)

    monkeypatch.setattr(traces, "generate", short)
    run_study(study, tmp_path / "out")
    assert set(asked) == {64, 32} and files(tmp_path / "out").keys() == files(whole).keys()
    rows = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert any(r.get("note") == "out of memory with a batch of 64: done with 32" for r in rows)


# --- parts without a driver ---


@pytest.mark.slow
def test_three_shells_share_a_study_that_was_begun(study, whole, tmp_path):
    out = tmp_path / "out"
    assert run_study(study, out, begin_only=True) is None
    assert not list(out.glob("transcripts/*"))
    environment = {**os.environ, "PYTHONPATH": SRC}
    shells = [
        subprocess.Popen([*COMMAND, "work", str(out), "--part", f"{i}/3"], env=environment, stdout=subprocess.PIPE)
        for i in (1, 2, 3)
    ]
    said = [shell.communicate(timeout=240)[0].decode() for shell in shells]
    assert [shell.returncode for shell in shells] == [0, 0, 0]
    counts = [int(text.split(": ")[1].split()[0]) for text in said]
    assert min(counts) > 0
    run_study(study, out)
    assert done_units(out) == []  # nothing was left for the driver
    assert files(out) == files(whole)


def test_parts_need_a_study_that_was_begun_and_calibrations_that_come(study, tmp_path):
    with pytest.raises(InputError, match="holds no study"):
        work_part(str(tmp_path), 0, 2)
    run_study(study, tmp_path / "out", begin_only=True)
    with pytest.raises(StateError, match="did not come within 0 s"):
        work_part(str(tmp_path / "out"), 0, 4, wait=0)


# --- other places ---


def test_a_study_in_memory_is_pulled_and_whole(study, whole, tmp_path):
    pytest.importorskip("fsspec")
    run_study(study, "memory://studies/a")
    place = Place("memory://studies/a", tmp_path / "copy")
    assert {n for n in place.names() if n != "log.jsonl"} == set(files(whole))
    place.fetch(place.names())
    assert files(tmp_path / "copy") == files(whole) and problems(tmp_path / "copy")[1] == []
    outcome = run_study(study, "memory://studies/a")
    assert len(outcome.panel) == 2 and done_units(outcome.folder)[len(done_units(outcome.folder)) :] == []


def test_a_second_root_is_shared_by_two_processes_and_mended(study, whole, tmp_path):
    uri = f"file://{tmp_path}/bucket/study"
    run_study(study, uri, engine=LocalEngine(2))
    assert files(tmp_path / "bucket" / "study") == files(whole)
    victim = next((tmp_path / "bucket" / "study" / "traces").glob("*.layers.parquet"))
    victim.write_bytes(victim.read_bytes()[:-9])
    run_study(study, uri)
    assert files(tmp_path / "bucket" / "study") == files(whole)


def test_a_place_that_nobody_knows_is_said():
    with pytest.raises(InputError, match="cannot open nowhere://x"):
        Place("nowhere://x")


# --- clusters ---


@pytest.fixture
def importable(monkeypatch):
    """Processes that are started anew find these tests."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([SRC, str(Path(SRC).parent)]))


@pytest.mark.slow
def test_ray_loses_a_machine_in_mid_unit_and_gives_the_same_bytes(study, whole, tmp_path, importable):
    pytest.importorskip("ray")
    import ray
    from ray.cluster_utils import Cluster

    from phaselens.engines.ray_cluster import RayEngine

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        nodes = {node.node_id: node for node in (cluster.add_node(num_cpus=1) for _ in range(3))}
        thread, gone = ended(tmp_path / SIGN, lambda _, place: cluster.remove_node(nodes[place], allow_graceful=False))
        try:
            run_study(study, tmp_path / "out", engine=Stalling(RayEngine(cluster.address)))
            thread.join(60)
        finally:
            ray.shutdown()
            cluster.shutdown()
    assert gone and files(tmp_path / "out") == files(whole)
    made = done_units(tmp_path / "out")
    assert sum(what == "observe" for what, _ in made) == len(list(whole.glob("traces/*.runs.parquet")))


def end_tree(pid: int, _: str) -> None:
    """End a job of submitit's local executor: the process that works and the launchers above it, up to this one."""
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        tree = [process, *process.children(recursive=True)]
        tree += [p for p in process.parents() if "submitit" in " ".join(p.cmdline()) and p.pid != os.getpid()]
        for one in tree:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()


@pytest.mark.slow
def test_slurm_jobs_as_processes_one_tree_killed_and_submitted_again(study, whole, tmp_path, importable):
    pytest.importorskip("submitit")
    pytest.importorskip("psutil")
    thread, killed = ended(tmp_path / SIGN, end_tree)
    engine = SlurmEngine(max_parallel=4, cluster="local", logs=str(tmp_path / "logs"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run_study(study, tmp_path / "out", engine=Stalling(engine))
    thread.join(60)
    assert killed and files(tmp_path / "out") == files(whole)
