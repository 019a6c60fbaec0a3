"""What tasks cost: every task says so, the lines are those of its methods, and a run tells them before it begins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import sfumato
from sfumato.errors import OptionError
from sfumato.models.model import Model
from sfumato.registry import find
from sfumato.request import Request
from sfumato.runs.task import Cost, find_task
from tests.cli.running import run
from tests.methods.test_costs import rows_made, rows_said


@pytest.mark.parametrize("task", sfumato.tasks(), ids=lambda task: task.name)
def test_every_task_says_what_it_costs(task: Any) -> None:
    assert 5 < len(task.cost.text) < 120
    assert "\n" not in task.cost.text
    assert not task.cost.text.endswith(".")


def lines(model: Model, name: str, items: int = 1, **options: Any) -> list[str]:
    task = find_task(name)
    return task.costs(model, model.complete(Request("a red circle")), items, task.configure(options))


def test_a_text_stands_with_the_number_of_items(model: Model) -> None:
    assert lines(model, "emergence") == ["one generation for each seed; 1 item"]
    assert lines(model, "swapped_adjectives", 1200) == ["two generations for each pair; 1,200 items"]


def test_explaining_costs_what_its_methods_cost(model: Model) -> None:
    request = model.complete(Request("a red circle"))
    daam, cam = (find(name) for name in ("daam", "df_cam"))
    given = {"method": ("daam", "df_cam"), "option": ("df_cam.at=1,2",)}
    assert lines(model, "explain", 30, **given) == [
        f"daam: {daam.cost(model, request, daam.configure({}))}",
        f"df_cam: {cam.cost(model, request, cam.configure({'at': (1, 2)}))}",
        "all of it for each of 30 images, less where it was measured before",
    ]
    assert lines(model, "explain", 30)[0].startswith("daam: one generation")  # where no method is named
    assert lines(model, "counts", 30) == lines(model, "explain", 30)
    assert lines(model, "cohyponyms", 30)[-1].startswith("all of it for both images of each of 30 pairs")
    assert "3 times on randomised weights" in lines(model, "judge", stages=3)[1]


@pytest.mark.parametrize(("name", "options"), [("generate", {}), ("explain", {"method": ("daam", "df_cam")})])
def test_as_many_calls_are_made_as_were_said(model: Model, tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    told: list[str] = []
    request = Request("a red circle", steps=4)
    made = rows_made(
        model,
        lambda: sfumato.run(name, model, out=tmp_path / "run", prompts=[request], costs=told.extend, **options),
    )
    said = sum(rows_said(line, model, model.complete(request)) for line in told)
    assert said <= made <= said + 2  # a call by which the layers are found


def test_a_run_tells_its_cost_once_before_it_begins(model: Model, tmp_path: Path) -> None:
    told: list[Any] = []

    def started(**more: Any) -> None:
        sfumato.run(
            *("made-up", model),
            out=tmp_path / "run",
            prompts=["a cat", {"prompt": "a", "seed": "x"}, "a dog"],
            report=lambda status: told.append(status.counts.open),
            costs=told.append,
            **more,
        )

    started()
    assert told[0] == ["nothing; 2 items"]  # a row that is no request costs nothing
    assert told[1:] == [2, 0]
    told.clear()
    started()  # nothing is left to do
    assert told == [0]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OptionError("this request has no mask"), "this request has no mask"),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),  # of another package
    ],
)
def test_a_cost_that_cannot_be_known_stops_no_run(
    error: Exception, said: str, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*given: Any) -> list[str]:
        raise error

    task = find_task("made-up")
    monkeypatch.setitem(vars(task), "cost", Cost("a mask for each item", unknown))
    told: list[str] = []
    done = sfumato.run("made-up", model, out=tmp_path / "run", prompts=["a cat"], costs=told.extend)
    assert told == [f"not known: {said}"]
    assert done.counts.ok == 1


def test_the_command_prints_its_cost_and_json_has_none(model_folder: Path, tmp_path: Path) -> None:
    given = ("--prompts", "2", "--steps", "2", "--model", str(model_folder), "--device", "cpu", "--out")
    done = run("run", "generate", *given, str(tmp_path / "run"))
    assert done.code == 0, done
    assert done.out.splitlines()[0].startswith("cost: one generation (2 denoiser calls) for each of 2 images")
    assert done.out.count("cost: ") == 1
    plain = run("run", "generate", *given, str(tmp_path / "other"), "--json")
    assert all(json.loads(line)["state"] in ("running", "ended") for line in plain.out.splitlines())


def test_the_list_of_tasks_has_their_costs() -> None:
    found = {one["task"]: one["cost"] for one in json.loads(run("run", "--list", "--json").out)}
    assert found == {task.name: task.cost.text for task in sfumato.tasks()}
    shown = " ".join(run("run", "--list").out.split())
    assert "question paper cost needs" in shown
