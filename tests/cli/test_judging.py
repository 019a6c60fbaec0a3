"""``sfumato judge`` on results on disk."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sfumato
from sfumato.results.interval import Interval
from sfumato.results.opening import open as open_explanation
from tests.cli.running import run
from tests.labels import REQUEST, tiny_labels
from tests.methods.steps import CLIP

FEW = ("--points", "3", "--measure", "local_ssim")
GAMES = ("--check", "games")


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Images without a word are kept here, for all tests."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SFUMATO_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def label_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "labels"
    tiny_labels().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def results(label_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Baselines of two seeds, and a result without a map."""
    folder = tmp_path_factory.mktemp("results")
    model = sfumato.load(str(label_folder))
    options = {"kinds": ("gradient",), "at": (1, 3)}
    sfumato.explain(model, REQUEST, "step_baselines", **options).save(folder / "one")
    sfumato.explain(model, REQUEST.with_(seed=9), "step_baselines", **options).save(folder / "two")
    sfumato.explain(model, REQUEST, "switch", to="1100").save(folder / "switch")
    return folder


@pytest.fixture(scope="module")
def one(results: Path, label_folder: Path) -> tuple[str, ...]:
    """The first arguments that judge one image."""
    return ("judge", str(results / "one"), "--model", str(label_folder))


def test_maps_are_judged_beside_the_controls(
    one: tuple[str, ...], results: Path, label_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "judged"
    done = run(*one, str(results / "two"), *GAMES, "--points", "3", "--clip", CLIP, "--out", str(out))
    assert (done.code, done.err) == (0, "")
    assert f"{label_folder}: games of the steps" in done.out
    assert "cost: " not in done.out
    assert done.out.splitlines()[-1] == f"results in {out}"
    assert sorted(path.name for path in out.iterdir() if path.name[0] != ".") == [
        "curves.json",
        "curves.png",
        "table.csv",
    ]
    with (out / "table.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["game"], row["measure"], row["map"]) for row in rows} == {
        (game, measure, name)
        for game in ("deletion", "insertion")
        for measure in ("local_ssim", "features")
        for name in ("gradient", "random", "centre")
    }
    for row in rows:
        area = Interval(*(float(row[f"area.{part}"]) for part in ("value", "low", "high")), int(row["area.n"]))
        assert area.n == 4
        line = rf"{row['game']} +{row['measure']} +{row['better']} +{row['map']} +{re.escape(area.brief)}"
        assert re.search(line, done.out), row
    curves = json.loads((out / "curves.json").read_text(encoding="utf-8"))
    assert len(curves) == len(rows) * 4
    assert {(line["image"], line["step"]) for line in curves} == {(0, 1), (0, 3), (1, 1), (1, 3)}
    with Image.open(out / "curves.png") as picture:
        assert picture.width > picture.height > 400


def test_numbers_as_json(one: tuple[str, ...], tmp_path: Path) -> None:
    out = tmp_path / "judged"
    done = run(*one, *GAMES, "--game", "insertion", *FEW, "--out", str(out), "--json")
    assert (done.code, done.err) == (0, "")
    printed = json.loads(done.out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert set(printed) == {"trust", "rows", "skipped", "notes", "folder"}
    assert printed["trust"] == []
    assert printed["folder"] == str(out)
    assert printed["skipped"] == []
    assert printed["notes"] == []
    assert [(row["game"], row["measure"], row["better"]) for row in printed["rows"]] == [
        ("insertion", "local_ssim", "lower")
    ] * 3
    areas = [row["area"]["value"] for row in printed["rows"]]
    assert areas == sorted(areas)  # the best first
    curves = json.loads((out / "curves.json").read_text(encoding="utf-8"))
    for row in printed["rows"]:
        own = [np.trapezoid(line["values"], line["shares"]) for line in curves if line["map"] == row["map"]]
        assert row["area"]["value"] == pytest.approx(np.mean(own), abs=1e-3)


def test_steps_can_be_chosen_and_what_is_left_out_is_told(one: tuple[str, ...], tmp_path: Path) -> None:
    out = tmp_path / "judged"
    arguments = (*one, *GAMES, "--game", "deletion", *FEW, "--at", "1:3", "--out", str(out))
    done = run(*arguments)
    assert (done.code, done.err) == (0, "")
    assert "left out: gradient has no map at step 2" in done.out.splitlines()
    curves = json.loads((out / "curves.json").read_text(encoding="utf-8"))
    assert {(line["map"], line["step"]) for line in curves} == {
        ("gradient", 1),
        ("random", 1),
        ("centre", 1),
        ("random", 2),
        ("centre", 2),
    }
    assert json.loads(run(*arguments, "--json").out)["skipped"] == ["gradient has no map at step 2"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--game", "removal"), "there is no game 'removal'; choose from: deletion, insertion"),
        (("--measure", "fid"), "there is no distance 'fid'; choose from: local_ssim, features, clip"),
        (("--at", "middle"), "--at is 'middle'; expected steps such as 5,10,15 or a range such as 0:10"),
        (("--at", ""), "--at is ''; expected steps such as 5,10,15"),
        (("--at", "6"), "at has 6; this run has steps 0 to 5"),
        (("--points", "0"), "'--points': Input should be greater than or equal to 1"),
        (("--points", "257"), "points is 257; this latent has 256 places"),
        (("--memory", "0.001"), "memory is 0.001 MB; one call of the denoiser takes up to 2 MB, give as much"),
        (("--model", "absent"), "there is no model"),
    ],
)
@pytest.mark.parametrize("checks", [(), GAMES, ("--check", "seeds", *GAMES)], ids=["all", "games", "seeds and games"])
def test_what_cannot_be_played_is_an_error_and_leaves_nothing(
    one: tuple[str, ...],
    tmp_path: Path,
    checks: tuple[str, ...],
    arguments: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sfumato.judging.evaluation.trust", lambda *given, **more: pytest.fail("made before"))
    found = run(*one, "--out", str(tmp_path / "new" / "judged"), *checks, *arguments)
    assert message in found.error
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_judged_is_an_error_and_leaves_nothing(
    one: tuple[str, ...], results: Path, label_folder: Path, tmp_path: Path
) -> None:
    out = ("--model", str(label_folder), "--out", str(tmp_path / "judged"))
    assert "holds no map of the image; its nodes are:" in run("judge", str(results / "switch"), *out).error
    assert "does not exist" in run("judge", str(tmp_path / "absent"), *out).error
    assert "does not exist" in run(*one, str(tmp_path / "absent"), *out).error
    assert run("judge", *out).code == 2
    assert not list(tmp_path.iterdir())


def test_without_a_model_the_one_that_the_result_names_is_loaded(results: Path, tmp_path: Path) -> None:
    named = open_explanation(results / "one").provenance["model"]
    found = run("judge", str(results / "one"), "--out", str(tmp_path / "judged"))
    # a folder is known by its last part only
    assert f"made by '{named}', which cannot be loaded by that name; give its folder with --model" in found.error


def test_another_model_is_an_error(one: tuple[str, ...], tmp_path: Path) -> None:
    tiny_labels(seed=1).save_pretrained(tmp_path / "other")
    found = run(*one, "--model", str(tmp_path / "other"), "--out", str(tmp_path / "judged"))
    assert "with other weights than those of" in found.error
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_a_folder_with_other_files_is_not_replaced(one: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("kept")
    found = run(*one, *GAMES, *FEW, "--out", str(tmp_path))
    assert "is not empty and no earlier result of Sfumato" in found.error
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
