"""``sfumato explain`` end to end, on a small model with random weights."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sfumato.results.opening import open as open_explanation
from tests.cli.running import run

SMALL = ("--steps", "1", "--size", "32x32")


def pixels(path: Path) -> NDArray[np.int64]:
    """A picture on disk as (y, x, channel)."""
    with Image.open(path) as picture:
        return np.asarray(picture, dtype=np.int64)


@pytest.fixture
def quick_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small pictures in the place of those whose drawing takes long."""
    monkeypatch.setattr("sfumato.plots.overlay", lambda image, heat: Image.new("RGB", heat.shape))
    monkeypatch.setattr("sfumato.plots.word_sheet", lambda explanation, image: Image.new("RGB", (1, 1)))


def test_the_folder_holds_everything_and_all_of_it_agrees(made: Path) -> None:
    names = {path.name for path in made.iterdir()} - {".sfumato.json"}
    assert names == {
        "image.png",
        "words.png",
        "words",
        "report.html",
        "summary.json",
        "numbers.csv",
        "explanation.zarr",
    }
    explanation = open_explanation(made, verify=True)
    np.testing.assert_array_equal(pixels(made / "image.png"), np.asarray(explanation.image))
    summary = json.loads((made / "summary.json").read_text())
    assert summary["request"] == explanation.request.to_dict()
    assert summary["provenance"]["method"] == "daam"
    assert [row["word"] for row in summary["words"]] == explanation.words["word"].values.tolist()
    assert [row["word"] for row in summary["words"]] == ["a", "red", "cat", ",", "on", "the", "table"]
    for row in summary["words"]:
        assert 0 < row["coverage"] <= 1
        assert {"x", "y"} <= set(row["peak"])
    assert sum(row["share"] for row in summary["words"]) == pytest.approx(1)


def test_every_word_has_a_picture_named_after_its_place_and_text(made: Path) -> None:
    names = sorted(path.name for path in (made / "words").iterdir())
    assert names == ["1-a.png", "2-red.png", "3-cat.png", "4-comma.png", "5-on.png", "6-the.png", "7-table.png"]
    assert len({pixels(made / "words" / name).shape for name in names}) == 1
    assert pixels(made / "words.png").shape[1] > pixels(made / "image.png").shape[1]


def test_the_page_shows_every_word_and_needs_no_network(made: Path) -> None:
    page = (made / "report.html").read_text(encoding="utf-8")
    assert all(f">{word}<" in re.sub(r"</?bdi>", "", page) for word in ("red", "cat", "table"))
    assert not re.findall(r"""(?:src|href)=["']?https?:""", page)


@pytest.mark.usefixtures("lent")
def test_a_run_says_its_cost_its_numbers_and_its_place(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run("explain", "a red cat", *SMALL, "--out", str(out))
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0] == "cost: one generation (1 denoiser calls), no extra call"
    assert lines[2].split() == ["word", "pos", "coverage", "peak", "(x,", "y)", "share"]
    rows = [line.split() for line in lines if "%" in line]
    assert [row[:2] for row in rows] == [["a", "det"], ["red", "adj"], ["cat", "noun"]]
    assert str(out) in lines[-1]


@pytest.mark.usefixtures("lent")
def test_json_is_the_summary_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run("explain", "a red круг", *SMALL, "--seed", "5", "--out", str(out), "--json")
    assert (done.code, done.err) == (0, "")
    printed = json.loads(done.out)
    assert printed.pop("folder") == str(out)
    assert printed == json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert printed["request"]["seed"] == 5
    assert [row["word"] for row in printed["words"]] == ["a", "red", "круг"]


@pytest.mark.usefixtures("lent")
def test_several_images_have_their_seed_in_their_names(tmp_path: Path) -> None:
    several, alone = tmp_path / "several", tmp_path / "alone"
    done = run("explain", "red cat", *SMALL, "--seed", "7", "--images", "2", "--out", str(several))
    assert done.code == 0
    assert [line for line in done.out.splitlines() if line.startswith("seed")] == ["seed 7", "seed 8"]
    pictures = sorted(str(path.relative_to(several)) for path in several.rglob("*.png"))
    assert pictures == [
        "image-seed-7.png",
        "image-seed-8.png",
        "words-seed-7.png",
        "words-seed-8.png",
        "words/seed-7/1-red.png",
        "words/seed-7/2-cat.png",
        "words/seed-8/1-red.png",
        "words/seed-8/2-cat.png",
    ]
    assert run("explain", "red cat", *SMALL, "--seed", "8", "--out", str(alone)).code == 0
    np.testing.assert_allclose(pixels(several / "image-seed-8.png"), pixels(alone / "image.png"), atol=1)


@pytest.mark.usefixtures("lent")
def test_a_variation_lies_between_the_images_of_two_seeds(tmp_path: Path) -> None:
    made = {}
    for name, given in {"own": "5:0", "some": " 5 : .25 ", "other": "5:1"}.items():
        done = run("explain", "a cat", *SMALL, "--variation", given, "--out", str(tmp_path / name))
        assert (done.code, done.err) == (0, "")
        made[name] = pixels(tmp_path / name / "image.png")
    for name, seed in (("own", "0"), ("other", "5")):
        assert run("explain", "a cat", *SMALL, "--seed", seed, "--out", str(tmp_path / seed)).code == 0
        np.testing.assert_array_equal(made[name], pixels(tmp_path / seed / "image.png"))
        assert (made["some"] != made[name]).any()
    assert open_explanation(tmp_path / "some", verify=True).request.variation == (5, 0.25)
    summary = json.loads((tmp_path / "some" / "summary.json").read_text(encoding="utf-8"))
    assert summary["request"]["variation"] == [5, 0.25]
    assert "variation" in (tmp_path / "some" / "report.html").read_text(encoding="utf-8")


@pytest.mark.usefixtures("lent")
def test_every_setting_reaches_the_request(tmp_path: Path) -> None:
    out = tmp_path / "out"
    settings = {
        "steps": 2,
        "guidance": 3.5,
        "height": 32,
        "width": 48,
        "scheduler": "euler",
        "negative": "dog",
        "seed": 9,
    }
    given = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    assert run("explain", "a cat", *given, "--out", str(out)).code == 0
    request = open_explanation(out).request
    assert (request.steps, request.guidance, request.height, request.width) == (2, 3.5, 32, 48)
    assert (request.scheduler, request.negative_prompt, request.seed) == ("euler", "dog", 9)
    assert pixels(out / "image.png").shape == (32, 48, 3)


@pytest.mark.usefixtures("lent")
def test_options_reach_the_method(tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ("--option", "threshold=0.4", "--option", "keep=layer", "--option", "layers=up_blocks")
    assert run("explain", "a cat", *SMALL, *options, "--out", str(out)).code == 0
    explanation = open_explanation(out)
    assert explanation.words.attrs["threshold"] == 0.4
    assert "attention" in explanation.tree.children
    assert explanation.provenance["options"]["layers"] == "up_blocks"


@pytest.mark.usefixtures("lent")
def test_the_folder_is_named_after_prompt_and_seed_when_none_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("explain", "../A red cat!", *SMALL, "--seed", "3").code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a-red-cat-3"]


@pytest.mark.usefixtures("lent")
def test_an_earlier_result_is_replaced_whole(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("explain", "a red cat", *SMALL, "--images", "2", "--out", str(out)).code == 0
    assert run("explain", "the dog", *SMALL, "--out", str(out)).code == 0
    assert sorted(path.name for path in (out / "words").iterdir()) == ["1-the.png", "2-dog.png"]
    assert not (out / "image-seed-0.png").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.usefixtures("lent", "quick_pictures")
def test_words_that_were_cut_off_are_named_and_have_no_picture(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run("explain", "red " * 75 + "blue dog", *SMALL, "--out", str(out))
    assert done.code == 0
    assert len(done.err.splitlines()) == 1
    assert done.err.startswith("note: ")
    assert "blue, dog" in done.err
    assert "not seen by the model: blue, dog" in done.out
    assert len(list((out / "words").iterdir())) == 75
    summary = json.loads((out / "summary.json").read_text())
    assert [row["coverage"] for row in summary["words"][75:]] == [None, None]


@pytest.mark.slow
@pytest.mark.usefixtures("lent")
def test_ten_thousand_tokens_are_no_trouble(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run("explain", "blue cat " * 5000, *SMALL, "--out", str(out))
    assert done.code == 0
    assert len(done.err.splitlines()) == 1
    assert max(map(len, done.err.splitlines() + done.out.splitlines())) <= 500
    assert "and 9917 more" in done.out
    assert len(list((out / "words").iterdir())) == 75
    assert open_explanation(out).words.sizes["word"] == 10_000


@pytest.mark.usefixtures("lent")
@pytest.mark.parametrize(
    ("prompt", "names"),
    [
        ("../../etc", ["1-full-stop.png", "2-full-stop.png", "3-solidus.png", "4-full-stop.png"]),
        ("🙂 👨‍👩‍👧", ["1-slightly-smiling-face.png", "2-man.png"]),
        ("שלום עולם", ["1-שלום.png", "2-עולם.png"]),
        ("a\u200bb", ["1-a-b.png"]),
        ("<|endoftext|>", ["1-endoftext.png"]),
        ("x" * 300, ["1-" + "x" * 54 + ".png"]),
    ],
)
def test_a_word_of_any_kind_gives_a_file_inside_the_folder(prompt: str, names: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run("explain", *SMALL, "--out", str(out), "--", prompt)
    assert done.code == 0
    assert sorted(path.name for path in (out / "words").iterdir())[: len(names)] == names
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.usefixtures("lent")
def test_a_method_without_word_maps_is_shown_by_its_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def plain(*arguments: Any, **options: Any) -> Any:
        (explanation,) = explained(*arguments, **options)
        del explanation.tree["words"]
        return [explanation]

    from sfumato.explain import explained

    # the attribute sfumato.explain is the function, so the module is looked up by its name
    monkeypatch.setattr(sys.modules["sfumato.explain"], "explained", plain)
    out = tmp_path / "out"
    done = run("explain", "a cat", *SMALL, "--out", str(out))
    assert done.code == 0
    assert re.search(r"tokens +token 4, y 16, x 16", done.out)
    assert {path.name for path in out.iterdir()} >= {"image.png", "report.html", "summary.json", "explanation.zarr"}
    assert not (out / "words").exists()
