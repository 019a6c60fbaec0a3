"""`sfumato.run`, `sfumato.open_run` and `sfumato.tasks`, on the models that everybody has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import sfumato
from sfumato.errors import OptionError, RequestError, RunError, SfumatoError, UnknownTask
from sfumato.models.model import Model
from sfumato.request import Request
from sfumato.runs.manifest import Counts
from sfumato.tasks.explain import LEVELS

PAIR = ["a red circle", {"prompt": "a blue square left of a red cross", "id": 7}]
COMMON = {"steps": 2}


def test_the_tasks_are_listed_with_their_questions(model: Model, tmp_path: Path) -> None:
    names = [one.name for one in sfumato.tasks()]
    assert names == sorted(names)
    assert {"explain", "generate", "made-up"} <= set(names)
    assert all(one.question.endswith("?") for one in sfumato.tasks())
    with pytest.raises(
        UnknownTask, match="there is no task 'paint'; choose from: .*explain, frequency_levels, generate, .*made-up"
    ):
        sfumato.run("paint", model, out=tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_a_run_from_python_tells_of_its_progress_and_is_opened_again(model: Model, tmp_path: Path) -> None:
    told: list[Counts] = []
    run = sfumato.run(
        *("made-up", model),
        out=tmp_path / "run",
        prompts=["a cat", "a large dog", {"prompt": "a", "seed": "x"}],
        shard_size=1,
        batch=1,
        factor=2,
        report=lambda status: told.append(status.counts),
    )
    assert told == [Counts(invalid=1, open=2), Counts(ok=1, invalid=1, open=1), Counts(ok=2, invalid=1)]
    assert run.counts == Counts(ok=2, invalid=1)
    assert run.finding["sentence"] == "2 items"
    again = sfumato.open_run(str(tmp_path / "run"))
    assert again.settings["options"] == {"factor": 2, "names": []}
    assert again.items["made.length"].tolist()[:5] == [2.0, 6.0, 2.0, 10.0, 6.0]
    assert {name: found.sizes for name, found in again.maps.items()} == {
        "made/4x4": {"row": 2, "y": 4, "x": 4},
        "made/8x8": {"row": 3, "y": 8, "x": 8},
    }
    (_, first), (_, second) = again.records()
    np.testing.assert_array_equal(again.map_of(1, "made"), first.maps["made"][1])
    np.testing.assert_array_equal(again.map_of(4, "made"), second.maps["made"][2])
    for row, name in ((0, "other"), (5, "made")):
        with pytest.raises(RunError, match=f"row {row} has no map '{name}'; there are: made/4x4, made/8x8"):
            again.map_of(row, name)


def test_the_table_is_read_once_for_all_maps_and_anew_when_it_is_another(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = sfumato.run("made-up", model, out=tmp_path / "run", prompts=["a cat", "a large dog"], batch=1)
    run, read, reads = sfumato.open_run(made.folder), list[Path](), pd.read_parquet

    def noted(path: Path) -> pd.DataFrame:
        read.append(path)
        return reads(path)

    monkeypatch.setattr(pd, "read_parquet", noted)
    for row in range(4):
        run.map_of(row, "made")
    mine = run.items
    del mine["made/8x8"]
    assert run.map_of(1, "made").shape
    assert len(read) == 1
    table = tmp_path / "run" / "items.parquet"
    reads(table).iloc[:2].to_parquet(table)
    assert len(run.items) == 2
    assert len(read) == 2


def test_what_python_cannot_give_is_refused_before_anything_is_written(model: Model, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(RequestError, match="needs prompts"):
        sfumato.run("made-up", model, out=out)
    with pytest.raises(OptionError, match="cannot share a model"):
        sfumato.run("made-up", model, out=out, prompts=["a"], workers=2)
    with pytest.raises(OptionError, match="batch"):
        sfumato.run("made-up", model, out=out, prompts=["a"], batch=0)
    with pytest.raises(SfumatoError, match=r"missing\.csv' cannot be read"):
        sfumato.run("made-up", model, out=out, prompts="missing.csv")
    assert not out.exists()


def test_an_iterator_of_prompts_can_be_given(model: Model, tmp_path: Path) -> None:
    run = sfumato.run("made-up", model, out=tmp_path / "run", prompts=(f"a cat {n}" for n in range(3)))
    assert run.counts.ok == 3
    assert sfumato.run("made-up", model, out=tmp_path / "run", prompts=[f"a cat {n}" for n in range(3)]).counts.ok == 3
    assert sfumato.run("made-up", model, out=tmp_path / "number", prompts=4).counts.ok == 4


@pytest.mark.slow
def test_kept_maps_are_those_of_the_explanation(tmp_path: Path) -> None:
    model = sfumato.load("studio/scenes", device="cpu")
    full = sfumato.run(
        *("explain", model), out=tmp_path / "full", prompts=PAIR, common=COMMON, keep="full", method="daam", batch=2
    )
    small = sfumato.run("explain", model, out=tmp_path / "small", prompts=PAIR, common=COMMON, method="daam", batch=2)
    requests = [Request("a red circle", seed=0, steps=2), Request(PAIR[1]["prompt"], seed=1, steps=2)]
    row = 0
    for request, found in zip(requests, sfumato.explain(model, requests, "daam", batch=2), strict=True):
        table = full.items[full.items["prompt"] == request.prompt]
        words = found.words.isel(image=0, missing_dims="ignore").sortby("index")
        assert table["word"].tolist() == words["word"].values.tolist()
        for heat in words["map"].values:
            np.testing.assert_array_equal(full.map_of(row, "daam"), heat)
            off = np.abs(small.map_of(row, "daam") - heat).max()
            assert off <= 0.5001 * (heat.max() - heat.min()) / LEVELS + 1e-6 * np.abs(heat).max()
            row += 1
        assert full.image_of(int(table["item"].iloc[0])).exists()
    assert full.items["id"].dropna().unique().tolist() == [7]
    assert row == len(full.items)


@pytest.mark.slow
def test_a_model_of_labels_is_explained_by_steps(tmp_path: Path) -> None:
    rows = [{"label": "0011"}, {"label": "1100"}, {"label": "a"}, {"prompt": "a face"}]
    run = sfumato.run("explain", "studio/faces", out=tmp_path / "run", prompts=rows, common=COMMON, device="cpu")
    assert run.counts == Counts(ok=2, invalid=2)
    assert run.items["label"].dropna().unique().tolist() == ["0011", "1100"]
    assert any(name.startswith("profile.") for name in run.items.columns)
    made = sfumato.run("generate", "studio/faces", out=tmp_path / "made", prompts=rows, common=COMMON, device="cpu")
    assert made.image_of(1).exists()


@pytest.mark.slow
def test_another_package_offers_a_task_by_its_entry_point(outside: dict[str, str], tmp_path: Path) -> None:
    about = tmp_path / "broken-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[sfumato.tasks]\nbroken = no.such.module\n")
    code = "import sfumato; print(*(one.name for one in sfumato.tasks()))"
    environment = outside | {"PYTHONPATH": os.pathsep.join((str(tmp_path), outside["PYTHONPATH"]))}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == sorted([*(one.name for one in sfumato.tasks() if one.name != "made-up"), "made-up"])
    assert "the task 'broken' (no.such.module) cannot be loaded and is left out" in done.stderr
