"""``sfumato experiment`` on a model on disk: it names the task that each experiment became, and carries it out."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sfumato.cli.experimenting import NAMES
from sfumato.models.pixel import LabelModel
from sfumato.request import Request
from tests.cli.running import Finished, run
from tests.labels import square, tiny_labels

FILES = {"figure.png", "table.csv", "finding.json", "items.parquet", "manifest.json"}


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
    assert done.code == 0
    new = f"sfumato run switch --model {label_folder} --out {out} --seeds 2 --seed 0 --steps 3"
    assert done.err.splitlines()[0] == f"`sfumato experiment switch` is now: {new}"
    assert set(seen(out)) >= FILES
    assert seen(out.parent) == ["out"]
    found = finding(out)
    assert set(found) == {"name", "source", "verdict", "sentence", "about", "metrics", "rows"}
    assert found["name"] == "switch"
    expected = {
        "model": str(label_folder),
        "condition": "0110",
        "seeds": "0 to 1",
        "steps": 3,
        "scheduler": "ddim",
        "guidance": 1.0,
        "other": "0111",
    }
    assert found["about"].items() >= expected.items()
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
    assert lines[0] == "cost: a generation for each of about ten switches and two more, for each seed; 2 items"
    assert lines[1] == f"switch on {label_folder}"
    assert found["verdict"] == "inconclusive"  # of two seeds
    verdict = "inconclusive on this model: an interval leaves it open, or rests on fewer than 5 seeds or prompts"
    assert lines[-5:] == [
        f"found before: {found['source']}",
        f"here: {found['sentence']}",
        verdict,
        "",
        f"2 of 2 rows have a result, in {out}: items.parquet has a row for each",
    ]


def test_options_that_a_task_does_not_take_are_left_out(label_folder: Path, tmp_path: Path, drawn: list[int]) -> None:
    """As before: only some experiments looked at a mask or another condition."""
    mask = tmp_path / "mask.png"
    Image.fromarray(square().astype(np.uint8) * 255).save(mask)
    given = ("--mask", str(mask), "--other", "0011")
    done = experiment(label_folder, tmp_path / "out", *given, name="divergence")
    assert done.code == 0
    assert done.err.splitlines()[0].endswith("--seeds 2 --seed 0 --other 0011 --steps 3")
    assert finding(tmp_path / "out")["about"]["other"] == "0011"
    done = experiment(label_folder, tmp_path / "ablation", *given, name="ablation", seeds=1)
    assert done.code == 0
    assert done.err.splitlines()[0].endswith(f"--seeds 1 --seed 0 --steps 3 --mask {mask}")


def test_json_is_that_of_the_run(label_folder: Path, tmp_path: Path) -> None:
    done = experiment(label_folder, tmp_path / "out", "--json", name="divergence", seeds=1)
    last = json.loads(done.out.splitlines()[-1])
    assert last["finding"] == finding(tmp_path / "out")
    assert (last["ok"], last["failed"]) == (1, 0)


def test_an_unknown_name_lists_all_and_leaves_nothing(label_folder: Path, tmp_path: Path) -> None:
    done = experiment(label_folder, tmp_path / "out", name="emergance")
    assert done.error == f"error: there is no experiment 'emergance'; choose from: {', '.join(NAMES)}"
    assert set(NAMES) == {"emergence", "localisation", "ablation", "artifact", "divergence", "switch"}
    assert not list(tmp_path.iterdir())
    assert run("experiment").code == 2


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--seeds", "0"), "'--seeds': Input should be greater than or equal to 1"),
        (("--seeds", "-2"), "'--seeds': Input should be greater than or equal to 1"),
        (("--seed", "-1"), "'--seed': Input should be greater than or equal to 0"),
    ],
)
def test_a_wrong_number_is_one_line_and_leaves_nothing(
    label_folder: Path, tmp_path: Path, drawn: list[int], more: tuple[str, ...], message: str
) -> None:
    assert message in experiment(label_folder, tmp_path / "new" / "out", *more).error
    assert not list(tmp_path.iterdir())
    assert drawn == []


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--label", "01"), "expected 4 bits"),
        (("--other", "01"), "expected 4 bits"),
        (("--label", "0011", "--other", "0011"), "'0011', as in the request; give another"),
        (("--prompt", "a cat"), "takes no text; leave out the prompt"),
        (("--scheduler", "dddim"), "no scheduler 'dddim' fits this model"),
        (("--steps", "2"), "this run has 2 steps; switching needs 3 or more"),
        (("--mask", "mouth"), "the mask 'mouth' cannot be read"),
    ],
)
def test_bad_input_leaves_nothing(
    label_folder: Path, tmp_path: Path, drawn: list[int], more: tuple[str, ...], message: str
) -> None:
    name = "ablation" if "--mask" in more else "switch"
    done = experiment(label_folder, tmp_path / "new" / "out", *more, name=name)
    assert done.code == 2
    assert message in done.err.splitlines()[-1]
    assert not list(tmp_path.iterdir())
    assert drawn == []


def test_a_folder_of_something_else_is_refused_before_the_work(
    label_folder: Path, tmp_path: Path, drawn: list[int]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "diary.txt").write_text("mine")
    assert "is not empty and holds no run" in experiment(label_folder, tmp_path / "out").err
    assert "is a file" in experiment(label_folder, tmp_path / "out" / "diary.txt").err
    assert (tmp_path / "out" / "diary.txt").read_text() == "mine"
    assert drawn == []


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
    line = f"stopped; what is measured is kept in {out}, and the same command goes on"
    cost = "cost: two generations for each seed; 4 items\n"
    assert (done.code, done.out, done.err.splitlines()[-1]) == (130, cost, line)
    drawn.clear()
    assert experiment(label_folder, out, name="divergence", seeds=4).code == 0
    assert drawn == [2, 3]
    assert set(seen(out)) >= FILES


def test_emergence_takes_what_it_took(label_folder: Path, tmp_path: Path, drawn: list[int]) -> None:
    out = tmp_path / "run"
    done = experiment(label_folder, out, "--label", "0011", "--steps", "20", name="emergence")
    new = f"--model {label_folder} --out {out} --seeds 2 --seed 0 --label 0011 --steps 20"
    assert done.code == 0
    assert done.err.splitlines()[0] == f"`sfumato experiment emergence` is now: sfumato run emergence {new}"
    assert sorted(drawn) == [0, 1]
    assert finding(out)["about"].items() >= {"condition": "0011", "seeds": "0 to 1", "steps": 20}.items()
    assert f"here: {finding(out)['sentence']}" in done.out.splitlines()
    done = experiment(label_folder, tmp_path / "few", name="emergence")
    assert "this run has 3 steps, none of which ends" in done.err
    assert not (tmp_path / "few").exists()
