"""The executor on Ray: what it does when workers are lost and clusters are silent, and that its records are the same.

Most is tested on an imitation of Ray, which loses workers when it is told to; slow tests start real clusters.
"""

from __future__ import annotations

import hashlib
import importlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sfumato.runs.task
from sfumato.errors import OptionError, RunError, StoreError
from sfumato.runs.execute import Status
from sfumato.runs.executors import ray as executor
from sfumato.runs.executors import ray_cluster, ray_worker
from sfumato.runs.executors.executor import ATTEMPTS
from sfumato.runs.executors.ray import Ray
from sfumato.runs.executors.ray_worker import TOKEN, MeasuredShard, RayWorker, Ready, Refused
from sfumato.runs.manifest import Manifest, Planned
from sfumato.runs.running import run
from sfumato.runs.worker import Done, Job, ModelSource, Work
from tests.runs.echo import install

SETTINGS_FRAME = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


def job_in(folder: Path) -> Job:
    return Job(str(folder), "echo", {}, 8, "identity", {}, ModelSource("studio/scenes"))


def works_of(count: int) -> Iterator[Work]:
    return (Work(number, 0, (Planned(number, f"key {number}", {}, {}),)) for number in range(count))


# --- before a cluster is there ---------------------------------------------------------------------------------------


def test_without_ray_the_message_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)

    with pytest.raises(RunError, match=r"^the executor ray needs Ray: pip install 'sfumato\[ray\]'$"):
        Ray(2)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"workers": 0}, "workers is 0"),
        ({"workers": 1.5}, "workers is 1.5"),
        ({"workers": 1, "gpus_per_worker": -1}, "gpus_per_worker is -1"),
        ({"workers": 1, "cpus_per_worker": 0}, "cpus_per_worker is 0"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Ray(**given)


def test_a_run_without_work_starts_no_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "connected", None)

    assert list(Ray(2)(job_in(tmp_path), iter(()))) == []


@pytest.fixture
def answering() -> Iterator[Callable[[bytes | None], str]]:
    """A server on the loopback that answers everybody with the same bytes, or with silence; gives its address."""
    opened: list[socket.socket] = []

    def start(answer: bytes | None) -> str:
        server = socket.create_server(("127.0.0.1", 0))
        opened.append(server)

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                opened.append(connection)
                if answer is not None:
                    connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        return f"127.0.0.1:{server.getsockname()[1]}"

    yield start
    for one in opened:
        one.close()


@pytest.mark.parametrize("answer", [None, b"HTTP/1.1 400 Bad Request\r\n\r\n"], ids=["silent", "another program"])
def test_an_address_that_does_not_answer_is_one_line_in_time(
    answer: bytes | None, answering: Callable[[bytes | None], str], tmp_path: Path
) -> None:
    started = time.monotonic()

    with pytest.raises(RunError, match=r"no Ray cluster answers at 127\.0\.0\.1:\d+ \(") as caught:
        list(Ray(1, answering(answer))(job_in(tmp_path), works_of(1)))

    assert time.monotonic() - started < 20
    assert len(str(caught.value).splitlines()) == 1


def test_a_port_where_nobody_listens_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    with pytest.raises(RunError, match=rf"no Ray cluster answers at 127\.0\.0\.1:{port} \(.*refused\)"):
        list(Ray(1, f"127.0.0.1:{port}")(job_in(tmp_path), works_of(1)))


@pytest.mark.parametrize("address", ["ray://head:10001", "head", ":6379", "head:port", "head:99999", "", "a b\n:1x"])
def test_an_address_of_another_form_is_refused(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster, "_start", lambda *_: pytest.fail("started a cluster"))

    with pytest.raises(RunError, match="expected HOST:PORT"):
        list(Ray(1, address)(job_in(tmp_path), works_of(1)))


def test_other_versions_than_those_of_the_cluster_are_one_line(
    answering: Callable[[bytes | None], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    def refuse(**_: Any) -> None:
        raise RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.61.0\n    Python: 3.12.1\n")

    monkeypatch.setattr(ray, "init", refuse)

    with pytest.raises(RunError, match=r"Ray: 2\.61\.0 Python: 3\.12\.1; use the same versions on all nodes$"):
        list(Ray(1, answering(SETTINGS_FRAME))(job_in(tmp_path), works_of(1)))


def test_a_cluster_of_our_own_that_others_could_reach_is_refused() -> None:
    ray = SimpleNamespace(init=lambda **_: None, nodes=lambda: [{"NodeManagerAddress": "192.0.2.7"}])

    with pytest.raises(RunError, match=r"Ray listens on 192\.0\.2\.7 instead of 127\.0\.0\.1"):
        ray_cluster._start(ray, 1, {})


# --- the pool, on an imitation of Ray --------------------------------------------------------------------------------


class RayError(Exception):
    """Of the imitation."""


class OutOfMemoryError(RayError):
    """The same."""


class RayTaskError(RayError):
    """The same."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class NeverRaised(RayError):
    """The same."""


class FakeRay:
    """Actors whose calls are answered at once by a function of their number, the method and its arguments."""

    exceptions = SimpleNamespace(
        RayError=RayError,
        OutOfMemoryError=OutOfMemoryError,
        RayTaskError=RayTaskError,
        RuntimeEnvSetupError=NeverRaised,
        ActorUnschedulableError=NeverRaised,
    )

    def __init__(self, answer: Callable[..., Any]) -> None:
        self.answer, self.killed, self.options_given = answer, 0, dict[str, Any]()
        self.results: dict[int, Any] = {}
        self.most = 0
        self._numbers, self._actors = itertools.count(), itertools.count()
        self.resources = [{"CPU": 2.0}]

    def remote(self, actor: type) -> FakeRay:
        assert actor is RayWorker
        return self

    def options(self, **given: Any) -> SimpleNamespace:
        self.options_given = given
        return SimpleNamespace(remote=self._started)

    def _started(self) -> SimpleNamespace:
        number = next(self._actors)

        def method(name: str) -> SimpleNamespace:
            def call(*arguments: Any) -> int:
                reference = next(self._numbers)
                self.results[reference] = self.answer(number, name, *arguments)
                self.most = max(self.most, len(self.results))
                return reference

            return SimpleNamespace(remote=call)

        return SimpleNamespace(begin=method("begin"), measure=method("measure"))

    def wait(self, references: Sequence[int], **_: Any) -> tuple[list[int], list[int]]:
        return list(references[:1]), list(references[1:])

    def get(self, reference: int) -> Any:
        answer = self.results.pop(reference)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def kill(self, actor: Any) -> None:
        self.killed += 1

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": one} for one in self.resources]


def done_of(work: Work) -> MeasuredShard:
    return MeasuredShard(Done(work, f"shards/{work.shard:05d}.npz", "", 0, 0.0, ()))


def measured_on(ray: FakeRay, folder: Path, count: int = 6, **settings: Any) -> list[Done]:
    pool = executor._Pool(ray, Ray(**{"workers": 2} | settings), job_in(folder), "token", own=False)
    try:
        return list(pool.measured(works_of(count)))
    finally:
        pool.close()


def test_every_shard_is_measured_once_and_ray_holds_one_result_of_each_worker(tmp_path: Path) -> None:
    ray = FakeRay(lambda number, name, *given: Ready(True) if name == "begin" else done_of(given[0]))

    found = measured_on(ray, tmp_path, 100, workers=3)

    assert sorted(one.work.shard for one in found) == list(range(100))
    assert ray.most <= 3
    assert ray.results == {}
    assert ray.killed == 3


def test_a_lost_workers_shard_is_given_to_another_one(tmp_path: Path) -> None:
    batches = []

    def answer(number: int, name: str, *given: Any) -> Any:
        if name == "begin":
            return Ready(True)
        if given[0].shard == 3:
            batches.append(given[1])
            if len(batches) == 1:
                return RayError("the node is gone")
        return done_of(given[0])

    found = measured_on(FakeRay(answer), tmp_path)

    assert sorted(one.work.shard for one in found) == list(range(6))
    assert batches == [8, 8]  # of another size, the last bits would differ


@pytest.mark.parametrize(("error", "expected"), [(RayError, [8, 8, 1]), (OutOfMemoryError, [8, 4, 1])])
def test_a_shard_that_kills_its_workers_fails_and_the_others_go_on(
    tmp_path: Path, error: type[RayError], expected: list[int]
) -> None:
    batches = []

    def answer(number: int, name: str, *given: Any) -> Any:
        if name == "begin":
            return Ready(True)
        if given[0].shard == 2:
            batches.append(given[1])
            return error("killed\nand more lines")
        return done_of(given[0])

    found = {one.work.shard: one for one in measured_on(FakeRay(answer), tmp_path)}

    assert batches == expected
    assert len(found) == 6
    (outcome,) = found[2].outcomes
    assert outcome.reason == f"{ATTEMPTS} workers were lost while they measured its shard (killed)"


def test_where_no_worker_can_load_the_model_the_run_ends(tmp_path: Path) -> None:
    ray = FakeRay(lambda *_: RayError("out of everything"))

    with pytest.raises(RunError, match=r"3 workers in a row ended before they had loaded the model \(out of every"):
        measured_on(ray, tmp_path)


def test_one_worker_that_cannot_begin_does_not_stop_the_other(tmp_path: Path) -> None:
    lost: list[int] = []

    def answer(number: int, name: str, *given: Any) -> Any:
        if name == "begin":
            if number != 0:
                lost.append(number)
            return Ready(True) if number == 0 else RayError("no")
        return done_of(given[0])

    assert len(measured_on(FakeRay(answer), tmp_path)) == 6
    assert 1 <= len(lost) <= ATTEMPTS


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (Refused("run", "there is no model"), RunError, "^there is no model$"),
        (Refused("store", "the disk is full"), StoreError, "^the disk is full$"),
        (RayTaskError(KeyError("x")), RunError, "^a worker of the cluster failed: KeyError: x$"),
        (
            RayError("The actor with name RayWorker failed to import on the worker.\nNo module named 'sfumato'"),
            RunError,
            r"cannot import Sfumato \(No module named 'sfumato'\); install the same version on every node$",
        ),
    ],
)
def test_what_another_worker_would_meet_too_ends_the_run(
    tmp_path: Path, answer: Any, error: type[Exception], message: str
) -> None:
    ray = FakeRay(lambda *_: answer)

    with pytest.raises(error, match=message):
        measured_on(ray, tmp_path)

    assert ray.killed >= 2


def test_a_cluster_without_room_for_one_worker_is_refused(tmp_path: Path) -> None:
    ray = FakeRay(lambda *_: pytest.fail("asked a worker"))
    ray.resources = [{"CPU": 0.0, "GPU": 8.0}, {"CPU": 64.0}]

    with pytest.raises(RunError, match=r"none of the 2 nodes of the Ray cluster offers 0\.5 processors and 1 GPUs"):
        measured_on(ray, tmp_path)


@pytest.mark.parametrize(
    ("resources", "given", "expected"), [([{}], None, 0), ([{"GPU": 2.0}], None, 1), ([{}], 0.25, 0.25)]
)
def test_a_worker_has_a_gpu_where_the_cluster_has_any(
    tmp_path: Path, resources: list[dict[str, float]], given: float | None, expected: float
) -> None:
    ray = FakeRay(lambda *_: None)
    ray.resources = resources

    executor._Pool(ray, Ray(1, gpus_per_worker=given), job_in(tmp_path), "token", own=False)

    assert ray.options_given["num_gpus"] == expected
    assert ray.options_given["num_cpus"] == 0.5


def test_a_worker_that_does_not_share_the_folder_gets_the_pictures_and_returns_the_shard(tmp_path: Path) -> None:
    (tmp_path / "inputs").mkdir()
    (tmp_path / "inputs" / "a.png").write_bytes(b"picture")
    work = Work(0, 0, (Planned(0, "key", {"image": "inputs/a.png", "more_references": ["inputs/a.png"]}, {}),))

    def answer(number: int, name: str, *given: Any) -> Any:
        if name == "begin":
            return Ready(False)
        assert given[2] == {"inputs/a.png": b"picture"}
        return MeasuredShard(done_of(given[0]).done, b"shard")

    pool = executor._Pool(FakeRay(answer), Ray(1), job_in(tmp_path), "token", own=False)

    assert len(list(pool.measured(iter([work])))) == 1
    assert (tmp_path / "shards" / "00000.npz").read_bytes() == b"shard"


# --- the actor -------------------------------------------------------------------------------------------------------


class FakeWorker:
    """Writes a shard that says which pictures it saw."""

    model = None

    def __init__(self, job: Job, model: None = None) -> None:
        self.folder = Path(job.folder)

    def __call__(self, work: Work, *, batch: int) -> Done:
        path = self.folder / "shards" / "00000.npz"
        path.parent.mkdir(exist_ok=True)
        path.write_text(",".join(one.name for one in sorted(self.folder.glob("inputs/*"))))
        return Done(work, "shards/00000.npz", "", 0, 0.0, ())


def test_an_actor_writes_where_it_finds_the_token_of_the_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_worker, "Worker", FakeWorker)
    (work,) = works_of(1)
    with executor._token(job_in(tmp_path)) as token:
        shared, apart = RayWorker(), RayWorker()

        assert shared.begin(job_in(tmp_path), token) == Ready(True)
        assert apart.begin(job_in(tmp_path), "of another run") == Ready(False)

    assert not (tmp_path / TOKEN).exists()
    assert shared.measure(work, 1, {}) == MeasuredShard(done_of(work).done)
    assert (tmp_path / "shards" / "00000.npz").exists()
    assert apart.measure(work, 1, {"inputs/b.png": b""}) == MeasuredShard(done_of(work).done, b"b.png")


def test_an_actor_without_the_model_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(job: Job) -> None:
        raise RunError("there is no model")

    monkeypatch.setattr(ray_worker, "Worker", refuse)

    assert RayWorker().begin(job_in(tmp_path), "token") == Refused("run", "there is no model")


# --- real clusters ---------------------------------------------------------------------------------------------------


@pytest.fixture
def echo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The package of the task `echo`, installed for this process and those that it starts."""
    folder = install(tmp_path / "package")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(folder), *(one for one in sys.path if one))))
    yield folder
    sfumato.runs.task._tasks._entries.pop("echo", None)
    sys.modules.pop("sfumato_echo", None)
    importlib.invalidate_caches()


def shards_in(folder: Path) -> dict[str, str]:
    return {one.name: hashlib.sha256(one.read_bytes()).hexdigest() for one in sorted((folder / "shards").iterdir())}


def is_complete(folder: Path, count: int) -> bool:
    """Whether every item has one record, in one shard, with the digest that the manifest holds."""
    with Manifest(folder) as manifest:
        numbers = [one.number for group in manifest.measured() for one in group]
        stored = {name: manifest.digest_of(f"shards/{name}") for name in shards_in(folder)}
        return numbers == list(range(count)) and stored == shards_in(folder) and manifest.counts.ok == count


@pytest.mark.slow
def test_explanations_are_equal_bit_for_bit_to_those_of_one_process_and_nothing_listens_outside(
    tmp_path: Path,
) -> None:
    import psutil

    given: dict[str, Any] = {"prompts": 6, "common": {"steps": 2}, "batch": 2, "shard_size": 2, "method": ("daam",)}
    addresses: set[str] = set()

    def report(status: Status) -> None:
        for process in psutil.Process().children(recursive=True):
            for one in process.net_connections("inet"):
                if one.status == psutil.CONN_LISTEN:
                    addresses.add(one.laddr.ip.removeprefix("::ffff:"))

    run("explain", out=tmp_path / "local", **given)
    run("explain", out=tmp_path / "ray", executor=Ray(2), report=report, **given)

    assert addresses == {"127.0.0.1"}
    assert len(shards_in(tmp_path / "local")) == 3
    assert shards_in(tmp_path / "ray") == shards_in(tmp_path / "local")
    assert {one.name for one in (tmp_path / "ray").iterdir()} == {one.name for one in (tmp_path / "local").iterdir()}
    assert is_complete(tmp_path / "ray", 6)


@pytest.mark.slow
def test_a_node_killed_in_the_middle_loses_nothing_and_doubles_nothing(echo: Path, tmp_path: Path) -> None:
    from ray.cluster_utils import Cluster

    given: dict[str, Any] = {"prompts": 40, "batch": 2, "shard_size": 2}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        cluster.wait_for_nodes()
        killed: list[float] = []

        def report(status: Status) -> None:
            if status.counts.ok >= 6 and not killed:
                killed.append(time.monotonic())
                cluster.remove_node(nodes[0], allow_graceful=False)

        found = run(
            "echo",
            out=tmp_path / "ray",
            executor=Ray(2, cluster.address, cpus_per_worker=1),
            report=report,
            seconds=0.3,
            **given,
        )
    finally:
        cluster.shutdown()
    run("echo", out=tmp_path / "local", seconds=0.3, **given)

    assert killed
    assert (found.counts.ok, found.counts.failed) == (40, 0)
    assert is_complete(tmp_path / "ray", 40)
    assert shards_in(tmp_path / "ray").keys() == shards_in(tmp_path / "local").keys()
    assert shards_in(tmp_path / "ray") == shards_in(tmp_path / "local")


@pytest.mark.soak
def test_a_killed_driver_takes_its_cluster_along_and_its_run_goes_on_at_another_width(
    echo: Path, tmp_path: Path
) -> None:
    import psutil

    folder = tmp_path / "run"
    script = (
        "from sfumato.runs.running import run; from sfumato.runs.executors.ray import Ray\n"
        f"run('echo', out={str(folder)!r}, prompts=40, batch=2, shard_size=2, seconds=0.3, executor=Ray(1))"
    )
    driver = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
    try:
        waited = time.monotonic() + 600
        while len(list(folder.glob("shards/*.npz"))) < 3:
            assert driver.poll() is None
            assert time.monotonic() < waited
            time.sleep(0.1)
        started = psutil.Process(driver.pid).children(recursive=True)
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    _, alive = psutil.wait_procs(started, 300)  # Ray's own agents look for their parent now and then
    assert not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]
    before = shards_in(folder)

    found = run("echo", out=folder, prompts=40, batch=2, shard_size=2, seconds=0.3, executor=Ray(2))

    assert found.counts.ok == 40
    assert is_complete(folder, 40)
    assert before.items() <= shards_in(folder).items()


@pytest.mark.slow
def test_a_cluster_that_was_there_is_used_and_left_and_needs_no_common_folder(
    echo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    picture = Image.fromarray(np.arange(64 * 64 * 3, dtype=np.uint32).astype(np.uint8).reshape(64, 64, 3))
    rows = [{"prompt": f"a circle {number}", "image": picture, "invert": "noise"} for number in range(3)]
    run("echo", out=tmp_path / "local", prompts=rows, batch=1, shard_size=1)
    with ray_cluster.connected(None, 1):
        monkeypatch.setattr(executor, "TOKEN", ".where-no-worker-looks")
        run("echo", out=tmp_path / "ray", prompts=rows, batch=1, shard_size=1, executor=Ray(1))
        assert ray.is_initialized()
        gone = Ray(1)
        model = tmp_path / "gone"
        job = Job(str(tmp_path), "echo", {"seconds": 0.0}, 1, "", {}, ModelSource(str(model)))
        with pytest.raises(RunError, match=r"there is no model '.*gone'"):
            list(gone(job, works_of(1)))
    assert not ray.is_initialized()

    assert shards_in(tmp_path / "ray") == shards_in(tmp_path / "local")
