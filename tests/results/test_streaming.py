from __future__ import annotations

import errno
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sfumato
from sfumato.errors import StoreError
from sfumato.request import Request
from sfumato.results import streaming
from sfumato.results.streaming import Array, Folder, Memory, Node, Sink

STEPS = 5
REQUEST = Request(label="0011", seed=3, steps=STEPS)
ABOUT = {"request": REQUEST.to_dict(), "provenance": {"method": "profile", "model": "tiny"}}
NODES = {
    "samples": Node(
        {
            "picture": Array(("step", "y", "x", "channel"), (STEPS, 8, 6, 3), "uint8"),
            "spread": Array(("step",), (STEPS,), "float32"),
        },
        coords={"step": ("step", range(STEPS)), "timestep": ("step", [900.5, 700.0, 500.0, 300.0, 100.0])},
        attrs={"method": "profile"},
    ),
    "layers": Node(
        {"distance": Array(("at", "layer"), (2, 3), "float64")},
        coords={"at": ("at", [0, 2]), "layer": ("layer", ["downs.0.3", "mid_attn.fn", "ups.0.3"])},
    ),
}

WRITER = """
import sys
from pathlib import Path
import numpy as np
from sfumato.request import Request
from sfumato.results.streaming import Array, Folder, Node

steps = 5000
node = Node(
    {"picture": Array(("step", "y", "x", "channel"), (steps, 8, 8, 3), "uint8"),
     "value": Array(("step",), (steps,), "float64")},
    coords={"step": ("step", range(steps))},
)
about = {"request": Request(label="0011").to_dict(), "provenance": {"method": "profile"}}
sink = Folder(Path(sys.argv[1]), {"samples": node}, about)
for step in range(steps):
    sink.write("samples", "picture", step, np.full((8, 8, 3), 1 + step % 200, np.uint8))
    sink.write("samples", "value", step, np.float64(step + 0.5))
    sink.commit("samples", step + 1)
    print(step + 1, flush=True)
"""


def picture(step: int) -> np.ndarray:
    return np.random.default_rng(step).integers(0, 256, (8, 6, 3), np.uint8)


def fill(sink: Sink, steps: int, *, more: int = 0) -> None:
    """Write some steps and commit them, then write more."""
    for step in range(steps + more):
        sink.write("samples", "picture", step, picture(step))
        sink.write("samples", "spread", step, np.float32(step / 2))
        if step < steps:
            sink.commit("samples", step + 1)
        if step == 0:
            sink.write("layers", "distance", 0, np.array([1.0, 2.0, 3.0]))
            sink.commit("layers", 1)


@pytest.mark.parametrize("steps", [1, 3, STEPS])
def test_memory_and_folder_hold_the_same(tmp_path: Path, steps: int) -> None:
    memory, folder = Memory(NODES), Folder(tmp_path / "a.partial", NODES, ABOUT)
    fill(memory, steps)
    fill(folder, steps)
    read, about = streaming.read(tmp_path / "a.partial")
    assert about == ABOUT
    assert set(memory.tree()) == set(folder.tree()) == set(read) == {"samples", "layers"}
    for name, dataset in memory.tree().items():
        assert dataset.identical(folder.tree()[name]), name
        assert dataset.identical(read[name]), name
    samples = read["samples"]
    np.testing.assert_array_equal(samples["picture"], np.stack([picture(step) for step in range(steps)]))
    np.testing.assert_array_equal(samples["spread"], np.arange(steps) / 2)
    np.testing.assert_array_equal(samples["step"], np.arange(steps))
    assert (samples["picture"].dtype, samples["spread"].dtype) == (np.uint8, np.float32)
    assert samples.attrs == {"method": "profile"}
    assert read["layers"]["layer"].values.tolist() == ["downs.0.3", "mid_attn.fn", "ups.0.3"]
    assert read["layers"].sizes == {"at": 1, "layer": 3}


def test_only_committed_steps_are_read(tmp_path: Path) -> None:
    memory, folder = Memory(NODES), Folder(tmp_path / "a.partial", NODES, ABOUT)
    for sink in (memory, folder):
        assert sink.tree()["samples"].sizes["step"] == 0
        fill(sink, 2, more=2)
        assert sink.tree()["samples"].sizes["step"] == 2
    read, _ = streaming.read(tmp_path / "a.partial")
    np.testing.assert_array_equal(read["samples"]["timestep"], [900.5, 700])
    np.testing.assert_array_equal(read["samples"]["picture"], np.stack([picture(0), picture(1)]))


def test_a_commit_that_fails_leaves_the_steps_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Folder(tmp_path / "a.partial", NODES, ABOUT)
    fill(folder, 2, more=1)

    def fail(old: Path, new: Path) -> None:
        raise OSError(errno.EIO, "the disk is gone", str(old))

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(StoreError, match=r"input/output error; the steps before are kept: sfumato open .*a\.partial"):
        folder.commit("samples", 3)
    read, about = streaming.read(tmp_path / "a.partial")
    assert (read["samples"].sizes["step"], about) == (2, ABOUT)


def test_a_node_without_a_committed_step_is_left_out(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "a.partial", NODES, ABOUT)
    assert streaming.read(tmp_path / "a.partial") == ({}, ABOUT)
    folder.write("layers", "distance", 0, np.ones(3))
    folder.commit("layers", 1)
    assert list(streaming.read(tmp_path / "a.partial")[0]) == ["layers"]


def test_an_array_knows_its_bytes() -> None:
    assert Array(("step", "y", "x"), (10, 3, 2), "float32").bytes == 240
    assert Array(("step", "y", "x"), (100_000, 1000, 1000), "uint8").bytes == 10**11


def test_a_stream_opens_as_an_explanation(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "a.partial", NODES, ABOUT)
    fill(folder, 3, more=1)
    explanation = sfumato.open(tmp_path / "a.partial")
    assert explanation.request == REQUEST
    assert explanation.provenance == {"method": "profile", "model": "tiny", "partial": True}
    np.testing.assert_array_equal(np.asarray(explanation.image), picture(2))  # the last step's
    assert explanation.tree["samples"].sizes["step"] == 3
    np.testing.assert_array_equal(explanation.tree["layers"]["distance"], [[1.0, 2.0, 3.0]])
    explanation.save(tmp_path / "whole.zarr")
    assert sfumato.open(tmp_path / "whole.zarr", verify=True).tree["samples"].sizes["step"] == 3


def test_a_stream_without_a_step_says_so(tmp_path: Path) -> None:
    Folder(tmp_path / "a.partial", NODES, ABOUT)
    with pytest.raises(StoreError, match="a.partial holds no picture: left before its first step"):
        sfumato.open(tmp_path / "a.partial")


def test_a_stream_that_lost_its_arrays_is_an_error(tmp_path: Path) -> None:
    place = tmp_path / "a.partial"
    fill(Folder(place, NODES, ABOUT), 2)
    (place / "arrays.zarr").rename(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="a.partial cannot be read"):
        sfumato.open(place)


def test_a_damaged_chunk_is_an_error(tmp_path: Path) -> None:
    place = tmp_path / "a.partial"
    fill(Folder(place, NODES, ABOUT), 2)
    (chunk,) = (file for file in (place / "arrays.zarr/samples/picture/c/1").rglob("*") if file.is_file())
    chunk.write_bytes(b"damaged")
    with pytest.raises(StoreError, match="a.partial"):
        sfumato.open(place)


def test_an_earlier_stream_is_replaced(tmp_path: Path) -> None:
    place = tmp_path / "a.partial"
    fill(Folder(place, NODES, ABOUT), 4)
    folder = Folder(place, {"samples": NODES["samples"]}, ABOUT | {"provenance": {"method": "other"}})
    read, about = streaming.read(place)
    assert (read, about["provenance"]) == ({}, {"method": "other"})
    folder.write("samples", "picture", 0, picture(7))
    folder.write("samples", "spread", 0, np.float32(9))
    folder.commit("samples", 1)
    again, _ = streaming.read(place)
    np.testing.assert_array_equal(again["samples"]["picture"], picture(7)[None])
    assert "layers" not in again


def test_an_empty_folder_is_used_and_a_removed_one_is_gone(tmp_path: Path) -> None:
    place = tmp_path / "new" / "a.partial"
    place.mkdir(parents=True)
    folder = Folder(place, NODES, ABOUT)
    assert streaming.is_stream(place)
    folder.remove()
    assert not place.exists()
    assert place.parent.exists()
    folder.remove()  # a second time does no harm


@pytest.mark.parametrize("name", ["notes.txt", "committed.json", "arrays.zarr"])
def test_a_folder_with_foreign_files_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(json.dumps({"format": "mine"}))
    with pytest.raises(StoreError, match="is not empty and no stream of Sfumato; name another folder"):
        Folder(tmp_path, NODES, ABOUT)
    assert [file.name for file in tmp_path.iterdir()] == [name]
    assert json.loads((tmp_path / name).read_text()) == {"format": "mine"}
    assert not streaming.is_stream(tmp_path)


def test_a_foreign_folder_is_named_once(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StoreError) as error:
        Folder(tmp_path, NODES, ABOUT)
    assert str(error.value) == f"{tmp_path} is not empty and no stream of Sfumato; name another folder"


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file", tmp_path / "file" / "a.partial", tmp_path / ("a" * 300)):
        with pytest.raises(StoreError, match="is a file; give the name|a part of the path is a file|name is too long"):
            Folder(place, NODES, ABOUT)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": "sfumato-explanation"}', "null"])
def test_other_json_is_no_stream(tmp_path: Path, text: str) -> None:
    (tmp_path / "committed.json").write_text(text)
    assert not streaming.is_stream(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is of POSIX")
def test_a_killed_run_always_leaves_a_readable_stream(tmp_path: Path) -> None:
    place, log = tmp_path / "face.partial", tmp_path / "said"
    chance = random.Random(0)
    for _ in range(3):  # each run replaces what the one before it left
        said = _killed_while_writing(place, log, chance.uniform(0.02, 0.6))
        explanation = sfumato.open(place)
        samples: Any = explanation.tree["samples"]
        steps = samples.sizes["step"]
        assert said <= steps <= said + 1  # what was said to be durable is there, and the kill may have come in between
        assert steps < 5000
        np.testing.assert_array_equal(samples["value"], np.arange(steps) + 0.5)
        expected = np.broadcast_to(1 + np.arange(steps)[:, None, None, None] % 200, (steps, 8, 8, 3))
        np.testing.assert_array_equal(samples["picture"], expected)
        assert (np.asarray(explanation.image) == 1 + (steps - 1) % 200).all()
        assert explanation.provenance["partial"] is True


def _killed_while_writing(place: Path, log: Path, seconds: float) -> int:
    """Kill a writer some time after its first commit; gives the last commit that it told of."""
    with log.open("wb") as output:
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(place)], stdout=output)
        try:
            deadline = time.monotonic() + 60
            while not log.stat().st_size and writer.poll() is None and time.monotonic() < deadline:
                time.sleep(0.005)
            time.sleep(seconds)
            assert writer.poll() is None, "the writer ended by itself"
        finally:
            writer.kill()
            writer.wait()
    whole = log.read_text().rpartition("\n")[0]
    return int(whole.splitlines()[-1])


def test_two_streams_on_one_name_do_not_touch_each_other(tmp_path: Path) -> None:
    place = tmp_path / "a.partial"
    first = Folder(place, NODES, ABOUT)
    fill(first, 2)
    second = Folder(place, NODES, ABOUT)
    assert (first.place.name, second.place.name) == ("a.partial", "a-2.partial")
    fill(second, 1)
    first.write("samples", "picture", 2, picture(2))
    first.write("samples", "spread", 2, np.float32(1))
    first.commit("samples", 3)
    assert streaming.read(place)[0]["samples"].sizes["step"] == 3
    second.remove()
    assert os.listdir(tmp_path) == ["a.partial"]
    first.close()  # what it left may be replaced
    assert Folder(place, NODES, ABOUT).place == place.resolve()


WRITERS = """
import sys
from pathlib import Path
from sfumato.results.streaming import sink_of
from tests.results.test_streaming import ABOUT, NODES, fill

for turn in range(8):
    with sink_of(sys.argv[1], NODES, ABOUT) as sink:
        fill(sink, 5)
        samples = sink.tree()["samples"]
        assert samples.sizes["step"] == 5
"""


def test_many_runs_of_two_processes_on_one_name_all_come_through(tmp_path: Path, root: Path) -> None:
    place = tmp_path / "a.partial"
    command = [sys.executable, "-W", "error", "-c", WRITERS, str(place)]
    writers = [subprocess.Popen(command, cwd=root, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [writer.communicate(timeout=120)[1] for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0], said
    assert not list(tmp_path.iterdir())


REMOVED = """
import os, signal, sys
from pathlib import Path
from sfumato.results.streaming import Folder
from tests.results.test_streaming import ABOUT, NODES, fill

def remove_some(place, files):
    folder = Folder(place, NODES, ABOUT)
    fill(folder, 3)
    unlink = os.unlink

    def killed(path):
        nonlocal files
        if files == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        files -= 1
        unlink(path)

    os.unlink = killed
    folder.remove()

for files in (0, 1, 9):
    child = os.fork()
    if child == 0:
        try:
            remove_some(Path(sys.argv[1], str(files), "a.partial"), files)
        finally:
            os._exit(1)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is of POSIX")
def test_a_kill_while_it_is_removed_blocks_nothing(tmp_path: Path, root: Path) -> None:
    subprocess.run([sys.executable, "-c", REMOVED, str(tmp_path)], cwd=root, check=True)
    for parent in [tmp_path / str(files) for files in (0, 1, 9)]:
        assert [path.name for path in parent.glob(".sfumato-*")]
        folder = Folder(parent / "a.partial", NODES, ABOUT)
        assert os.listdir(parent) == ["a.partial"]
        folder.remove()
        assert not list(parent.iterdir())


@pytest.mark.parametrize(
    "name", ["notes.txt", "arrays.zarr/notes.txt", "arrays.zarr/samples/notes.txt", "arrays.zarr/samples/picture/c/x"]
)
def test_other_files_in_what_was_left_are_never_removed(tmp_path: Path, name: str) -> None:
    place = tmp_path / "a.partial"
    folder = Folder(place, NODES, ABOUT)
    fill(folder, 2)
    (place / "arrays.zarr/samples" / f"zarr.{'0' * 32}.partial").write_text("what zarr leaves when it is killed")
    (place / name).write_text("mine")
    before = sorted(path for path in place.rglob("*"))
    folder.remove()
    assert sorted(path for path in place.rglob("*")) == before
    with pytest.raises(StoreError, match=f"a.partial also holds files that Sfumato did not write .{name}."):
        Folder(place, NODES, ABOUT)
    assert sorted(path for path in place.rglob("*")) == before
    (place / name).unlink()
    assert Folder(place, NODES, ABOUT).place == place.resolve()


def test_links_in_what_was_left_are_neither_followed_nor_removed(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").write_text("mine")
    place = tmp_path / "a.partial"
    fill(Folder(place, NODES, ABOUT), 2)
    (place / "arrays.zarr/samples/more").symlink_to(tmp_path / "letters", target_is_directory=True)
    with pytest.raises(StoreError, match="did not write .arrays.zarr/samples/more"):
        Folder(place, NODES, ABOUT)
    with pytest.raises(StoreError, match="arrays.zarr/samples/more is no regular file"):
        sfumato.open(place)
    assert (tmp_path / "letters" / "a.txt").read_text() == "mine"


def test_a_run_that_fails_leaves_its_steps_or_nothing(tmp_path: Path) -> None:
    for steps in (0, 2):
        with pytest.raises(KeyboardInterrupt), streaming.sink_of(str(tmp_path / "a.partial"), NODES, ABOUT) as sink:
            _stopped(sink, steps)
        assert os.listdir(tmp_path) == ["a.partial"][: bool(steps)]
    assert sfumato.open(tmp_path / "a.partial").tree["samples"].sizes["step"] == 2


def test_a_first_step_that_cannot_be_kept_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        pytest.raises(StoreError, match="a.partial.*: the disk is full; free some space or choose another place$"),
        streaming.sink_of(str(tmp_path / "deep" / "a.partial"), NODES, ABOUT) as sink,
    ):
        _onto_a_full_disk(sink, monkeypatch)
    assert [path.name for path in tmp_path.rglob("*")] == ["deep"]


@pytest.mark.parametrize("name", ["", "a\0b", "."])
def test_names_that_cannot_be_are_one_line(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError) as caught, streaming.sink_of(name, NODES, ABOUT):
        pytest.fail("the name was taken")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def _onto_a_full_disk(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(old: Path, new: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(old))

    monkeypatch.setattr(os, "replace", full)
    fill(sink, 1)


def _stopped(sink: Sink, steps: int) -> None:
    fill(sink, steps)
    raise KeyboardInterrupt
