"""``sfumato train``: settings, stages, and what is said when it stops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sfumato_training.recipes import Recipe, recipe
from tests.cli.running import run


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Takes the place of the trainer and of the export, and notes what they were told."""
    calls: list[dict[str, Any]] = []

    def train(name: str, config: Any, out: Path, **options: Any) -> None:
        calls.append({"name": name, "config": config, "out": out, **options})

    def export(recipe: Recipe, out: Path, weights: Path, **options: Any) -> Path:
        calls.append({"exported": out, "weights": weights, **options})
        return weights / recipe.name

    monkeypatch.setattr("sfumato_training.recipes.train", train)
    monkeypatch.setattr(Recipe, "export", export)
    return calls


def test_all_stages_with_the_settings_of_the_shipped_model(trained: list[dict[str, Any]]) -> None:
    done = run("train", "scenes")
    assert (done.code, done.err) == (0, "")
    how = recipe("scenes")
    told = {"name": "scenes", "config": how.load(), "out": Path("runs/scenes"), "stages": how.stages, "resume": True}
    assert trained[0] == told
    assert trained[1]["weights"] == Path("runs/scenes/weights")
    assert "--model runs/scenes/weights/scenes" in done.out


def test_stages_steps_device_and_folder_can_be_chosen(trained: list[dict[str, Any]], tmp_path: Path) -> None:
    given = [
        "--stage",
        "clip",
        "--stage",
        "vae",
        "--steps",
        "12",
        "--device",
        "cuda",
        "--out",
        str(tmp_path),
        "--restart",
    ]
    done = run("train", "scenes", *given)
    assert done.code == 0
    (call,) = trained
    assert (call["stages"], call["out"], call["resume"]) == (("vae", "clip"), tmp_path, False)
    config = call["config"]
    assert (config.device, config.vae.steps, config.clip.steps) == ("cuda", 12, 12)
    assert config.unet == recipe("scenes").load().unet


def test_a_config_file_is_read(trained: list[dict[str, Any]], tmp_path: Path) -> None:
    file = tmp_path / "small.toml"
    file.write_text("seed = 3\n[vae]\nbatch = 4\n")
    assert run("train", "scenes", "--config", str(file)).code == 0
    assert (trained[0]["config"].seed, trained[0]["config"].vae.batch) == (3, 4)


def test_the_list_names_what_can_be_trained() -> None:
    shown = run("train", "--list")
    assert shown.code == 0
    for name in ("scenes", "faces", "segmenter"):
        assert name in shown.out
        assert all(stage in shown.out for stage in recipe(name).stages)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no name was given; choose from: faces, insert, scenes, scenes-mmdit, segmenter"),
        (
            ["landscapes"],
            "there is no training 'landscapes'; choose from: faces, insert, scenes, scenes-mmdit, segmenter",
        ),
        (["scenes", "--stage", "gan"], "there is no stage 'gan'; the stages are: data, vae, clip, unet"),
        (["scenes", "--steps", "0"], "'--steps': Input should be greater than or equal to 1"),
        (["scenes", "--config", "nowhere.toml"], "the training config nowhere.toml cannot be read"),
        (["scenes", "--config", "\0"], "NUL"),
        (["scenes", "--data", "photographs"], "--data is for faces"),
        (["faces", "--data", "nowhere"], "--data nowhere is no folder"),
    ],
)
def test_what_cannot_be_trained(arguments: list[str], message: str, trained: list[dict[str, Any]]) -> None:
    assert message in run("train", *arguments).error
    assert not trained


def test_a_wrong_setting_is_named(tmp_path: Path, trained: list[dict[str, Any]]) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text("[vae]\nbatches = 4\n")
    assert "[vae] batches is no setting" in run("train", "scenes", "--config", str(file)).error


def test_ctrl_c_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def stop(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sfumato_training.recipes.train", stop)
    done = run("train", "scenes", "--out", str(tmp_path))
    assert (done.code, done.out) == (130, "")
    assert done.err == f"stopped; the same command goes on from the last checkpoint in {tmp_path}\n"


def test_a_model_that_no_export_wrote_is_refused_before_the_training(tmp_path: Path) -> None:
    (tmp_path / "weights" / "scenes").mkdir(parents=True)
    (tmp_path / "weights" / "scenes" / "README.md").write_text("mine")
    error = run("train", "scenes", "--out", str(tmp_path)).error
    assert "weights/scenes is not empty and no earlier result of Sfumato" in error
    assert (tmp_path / "weights" / "scenes" / "README.md").read_text() == "mine"


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    assert "cannot write" in run("train", "scenes", "--out", str(file / "run"), "--stage", "data").error
