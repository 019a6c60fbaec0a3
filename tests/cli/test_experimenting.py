"""``sfumato experiment`` on a model on disk: its files, another run over them, Ctrl-C and kill -9."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sfumato.experiments.experiment import NAMES
from sfumato.models.pixel import LabelModel
from sfumato.request import Request
from tests.cli.running import Finished, run
from tests.labels import square, tiny_labels

FILES = {".sfumato.json", "figure.png", "table.csv", "finding.json"}


@pytest.fixture(scope="module")
def label_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "labels"
    tiny_labels(prediction_type="v_prediction").save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The first seed of every finished generation."""
    made: list[int] = []
    own = LabelModel.call

    def call(self: LabelModel, requests: Sequence[Request], on_step: Any) -> Any:
        result = own(self, requests, on_step)
        made.append(requests[0].seed)
        return result

    # not of the pipeline, whose code is part of what its images depend on
    monkeypatch.setattr(LabelModel, "call", call)
    return made


def experiment(model: Path, out: Path, *more: str, name: str = "switch", seeds: int = 2) -> Finished:
    given = ("--model", str(model), "--seeds", str(seeds), "--steps", "3", "--out", str(out))
    return run("experiment", name, *given, *more)


def finding(out: Path) -> dict[str, Any]:
    """What is in finding.json, which every reader of JSON must take."""
    found: dict[str, Any] = json.loads(
        (out / "finding.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON")
    )
    return found


def seen(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_finding_is_said_and_written(label_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    done = experiment(label_folder, out)
    assert (done.code, done.err) == (0, "")
    assert set(seen(out)) == FILES
    assert seen(out.parent) == ["out"]
    found = finding(out)
    assert set(found) == {"name", "source", "verdict", "sentence", "about", "rows"}
    assert found["name"] == "switch"
    assert found["about"] == {
        "model": "labels",
        "condition": "0110",
        "seeds": "0 to 1",
        "steps": 3,
        "scheduler": "ddim",
        "guidance": 1.0,
        "other": "0111",
    }
    with (out / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row, own in zip(rows, found["rows"], strict=True):
        assert float(row["timestep of the switch"]) == own["timestep of the switch"]
        for part, value in own["normalised ssim to the first"].items():
            assert float(row[f"normalised ssim to the first.{part}"]) == value
        assert set(own["normalised ssim to the first"]) == {"value", "low", "high", "n"}
        assert own["normalised ssim to the first"]["n"] == 2
    with Image.open(out / "figure.png") as figure:
        assert np.asarray(figure.convert("L")).std() > 5
    lines = done.out.splitlines()
    assert lines[0] == "switch on labels, 2 seeds"
    assert found["verdict"] == "inconclusive"  # of two seeds
    verdict = "inconclusive on this model: an interval leaves it open, or rests on fewer than 5 seeds or prompts"
    assert lines[-4:] == [
        f"found before: {found['source']}",
        f"here: {found['sentence']}",
        verdict,
        f"results in {out}: figure.png, table.csv, finding.json",
    ]


def test_json_is_what_is_in_the_file(label_folder: Path, tmp_path: Path) -> None:
    done = experiment(label_folder, tmp_path / "out", "--json")
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out) == finding(tmp_path / "out") | {"folder": str(tmp_path / "out")}


def test_the_options_reach_the_experiment(label_folder: Path, tmp_path: Path, drawn: list[int]) -> None:
    more = ("--seed", "7", "--label", "1000", "--other", "0001", "--scheduler", "ddpm")
    assert experiment(label_folder, tmp_path / "out", *more, name="divergence").code == 0
    told = finding(tmp_path / "out")["about"]
    expected = {"condition": "1000", "other": "0001", "seeds": "7 to 8", "scheduler": "ddpm", "steps": 3}
    assert told.items() >= expected.items()
    assert drawn == [7, 8]


def test_a_mask_is_read_from_a_picture(label_folder: Path, tmp_path: Path) -> None:
    Image.fromarray(square()).save(tmp_path / "mask.png")
    outs = [tmp_path / "square", tmp_path / "middle"]
    experiment(label_folder, outs[0], "--mask", str(tmp_path / "mask.png"), name="localisation", seeds=1)
    experiment(label_folder, outs[1], name="localisation", seeds=1)
    one, other = (finding(out)["rows"] for out in outs)
    assert one != other
    assert "cannot be read" in experiment(label_folder, tmp_path / "out", "--mask", str(tmp_path / "no.png")).error
    assert not (tmp_path / "out").exists()


def test_results_lie_by_experiment_and_model_unless_said(
    label_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").symlink_to(label_folder)
    done = run("experiment", "divergence", "--model", "tiny", "--seeds", "1", "--steps", "3")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[-1] == "results in out/divergence-tiny: figure.png, table.csv, finding.json"
    assert set(seen(tmp_path / "out" / "divergence-tiny")) == FILES


def test_an_unknown_name_lists_all_and_leaves_nothing(label_folder: Path, tmp_path: Path) -> None:
    done = experiment(label_folder, tmp_path / "out", name="emergance")
    assert done.error == f"error: there is no experiment 'emergance'; choose from: {', '.join(NAMES)}"
    assert not list(tmp_path.iterdir())
    assert run("experiment").code == 2


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--seeds", "0"), "'--seeds': Input should be greater than or equal to 1"),
        (("--seeds", "-2"), "'--seeds': Input should be greater than or equal to 1"),
        (("--seed", "-1"), "'--seed': Input should be greater than or equal to 0"),
        (("--label", "01"), "expected 4 bits"),
        (("--other", "01"), "expected 4 bits"),
        (("--label", "0011", "--other", "0011"), "'0011', as in the request; give another"),
        (("--prompt", "a cat"), "takes no text; leave out the prompt"),
        (("--scheduler", "dddim"), "no scheduler 'dddim' fits this model"),
        (("--steps", "2"), "this run has 2 steps; switching needs 3 or more"),
        (("--mask", "mouth"), "the mask 'mouth' cannot be read"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    label_folder: Path, tmp_path: Path, drawn: list[int], more: tuple[str, ...], message: str
) -> None:
    assert message in experiment(label_folder, tmp_path / "new" / "out", *more).error
    assert not list(tmp_path.iterdir())
    assert drawn == []


def test_a_folder_of_something_else_is_refused_before_the_work(
    label_folder: Path, tmp_path: Path, drawn: list[int]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "diary.txt").write_text("mine")
    assert "is not empty and no earlier result of Sfumato" in experiment(label_folder, tmp_path / "out").error
    assert "is a file" in experiment(label_folder, tmp_path / "out" / "diary.txt").error
    assert seen(tmp_path / "out") == ["diary.txt"]
    assert drawn == []


def test_an_earlier_result_is_replaced_by_a_finished_one_only(
    label_folder: Path, tmp_path: Path, drawn: list[int]
) -> None:
    out = tmp_path / "out"
    experiment(label_folder, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert experiment(label_folder, out, "--other", "01").code == 2
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    drawn.clear()
    assert experiment(label_folder, out, seeds=3).code == 0
    assert set(drawn) == {2}  # what is known of the first two seeds was kept
    assert finding(out)["about"]["seeds"] == "0 to 2"
    assert set(seen(out)) == FILES


def test_after_ctrl_c_the_same_command_goes_on(
    label_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn: list[int]
) -> None:
    out = tmp_path / "new" / "out"
    own = LabelModel.call
    with monkeypatch.context() as stopping:

        def call(self: LabelModel, requests: Sequence[Request], on_step: Any) -> Any:
            if len(drawn) == 2:
                raise KeyboardInterrupt
            return own(self, requests, on_step)

        stopping.setattr(LabelModel, "call", call)
        done = experiment(label_folder, out, name="divergence", seeds=4)
    line = "stopped; the same command goes on with the seeds that are left\n"
    assert (done.code, done.out, done.err) == (130, "", line)
    assert seen(tmp_path) == ["cache"]
    drawn.clear()
    assert experiment(label_folder, out, name="divergence", seeds=4).code == 0
    assert drawn == [2, 3]
    assert set(seen(out)) == FILES


def test_an_experiment_that_became_a_task_names_its_new_form_and_is_carried_out(
    label_folder: Path, tmp_path: Path, drawn: list[int]
) -> None:
    out = tmp_path / "run"
    done = experiment(label_folder, out, "--label", "0011", "--steps", "20", name="emergence")
    new = f"--seeds 2 --seed 0 --model {label_folder} --out {out} --label 0011 --steps 20"
    assert done.code == 0
    assert done.err.splitlines()[0] == f"`sfumato experiment emergence` is now: sfumato run emergence {new}"
    assert sorted(drawn) == [0, 1]
    assert finding(out)["about"].items() >= {"condition": "0011", "seeds": "0 to 1", "steps": 20}.items()
    assert f"here: {finding(out)['sentence']}" in done.out.splitlines()
    done = experiment(label_folder, tmp_path / "few", name="emergence")
    assert "this run has 3 steps, none of which ends" in done.err
    assert not (tmp_path / "few").exists()


# Runs a command that ends by kill -9: in the third generation, or when the figure is written but not the table.
KILLED = """
import os, signal, sys
from functools import wraps
from PIL import Image
import sfumato
from sfumato.cli import main
from sfumato.models.pixel import LabelModel

def dies(own, after, before):
    made = []
    @wraps(own)
    def call(*args, **kwargs):
        if before and len(made) == before:
            os.kill(os.getpid(), signal.SIGKILL)
        result = own(*args, **kwargs)
        made.append(1)
        if after and len(made) == after:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return call

sfumato.load(sys.argv[2], device="cpu")  # so that both children find the libraries loaded
for moment in ("generation", "figure"):
    child = os.fork()
    if not child:
        if moment == "generation":
            LabelModel.call = dies(LabelModel.call, 0, 2)
        else:
            Image.Image.save = dies(Image.Image.save, 1, 0)
        os.environ["SFUMATO_CACHE"] = os.path.join(sys.argv[1], moment, "cache")
        main(sys.argv[3:] + ["--out", os.path.join(sys.argv[1], moment, "out")])
        os._exit(70)
    print(moment, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.timeout(600)  # some seconds, but a busy machine may be very much slower
def test_a_killed_run_leaves_what_was_there_and_goes_on(
    label_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn: list[int]
) -> None:
    places = {moment: tmp_path / moment for moment in ("generation", "figure")}
    assert experiment(label_folder, places["figure"] / "out", name="divergence", seeds=1).code == 0
    earlier = {path.name: path.read_bytes() for path in (places["figure"] / "out").iterdir()}
    given = ("experiment", "divergence", "--model", str(label_folder), "--seeds", "3", "--steps", "3")
    program = [sys.executable, "-c", KILLED, str(tmp_path), str(label_folder), *given]
    done = subprocess.run(program, capture_output=True, text=True, timeout=500, check=False)
    assert done.stdout == "generation -9\nfigure -9\n", done.stderr

    left = {moment: [name for name in seen(place) if name != "cache"] for moment, place in places.items()}
    assert [name.startswith(".sfumato-") for name in left["generation"]] == [True]
    assert [name.startswith(".sfumato-") for name in left["figure"]] == [True, False]
    (begun,) = seen(places["figure"] / left["figure"][0] / "new" / "out")  # the figure, under a name of its own
    assert begun.endswith(".part")
    assert {path.name: path.read_bytes() for path in (places["figure"] / "out").iterdir()} == earlier

    for moment, rest in (("generation", [2]), ("figure", [])):
        drawn.clear()
        monkeypatch.setenv("SFUMATO_CACHE", str(places[moment] / "cache"))
        assert experiment(label_folder, places[moment] / "out", name="divergence", seeds=3).code == 0
        assert drawn == rest
        assert seen(places[moment]) == ["cache", "out"]
        assert set(seen(places[moment] / "out")) == FILES
        assert finding(places[moment] / "out")["about"]["seeds"] == "0 to 2"
    assert finding(places["figure"] / "out") == finding(places["generation"] / "out")
