"""``sfumato judge``: the checks of whole explanations, what they write, and what stops them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import sfumato
from sfumato.errors import SfumatoWarning
from sfumato.judging.trust import trust
from sfumato.request import Request
from sfumato.results.opening import open as open_explanation
from sfumato.results.rows import as_csv
from sfumato.writing.json_text import json_value
from tests.cli.running import run
from tests.labels import REQUEST, tiny_labels
from tests.methods.steps import CLIP
from tests.report.reading import Page

ONCE = ("--repeats", "1", "--stages", "1")
FEW = (*ONCE, "--points", "2", "--measure", "local_ssim", "--game", "deletion")
SMALL = Request("red cat, dog", seed=2, steps=2, guidance=3.0, height=16, width=24)
OF_GAMES = {"curves.png", "curves.json", "table.csv"}
ALWAYS = {"image.png", "summary.json", "numbers.csv", "explanation.zarr", "report.html", "trust.csv", "trust.png"}


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Images without a word are kept here, for all tests."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SFUMATO_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def results(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Explanations by words, by words as players and of steps, and the model of the last."""
    folder = tmp_path_factory.mktemp("results")
    words = sfumato.load(str(model_folder))
    sfumato.explain(words, SMALL).save(folder / "words")
    sfumato.explain(words, SMALL.with_(prompt="blue dog", seed=5)).save(folder / "more")
    sfumato.explain(words, SMALL.with_(images=2)).save(folder / "several")
    sfumato.explain(words, SMALL.with_(prompt="red cat", steps=1), "lime", similarity_model=CLIP).save(
        folder / "players"
    )
    tiny_labels().save_pretrained(folder / "labels")
    steps = sfumato.load(str(folder / "labels"))
    sfumato.explain(steps, REQUEST, "step_baselines", kinds=("gradient",), at=(1, 3)).save(folder / "steps")
    return folder


@pytest.fixture(scope="module")
def words(results: Path, model_folder: Path) -> tuple[str, ...]:
    """The first arguments that check an explanation by words."""
    return ("judge", str(results / "words"), "--model", str(model_folder))


def shown(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.name[0] != "."}


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))


def test_by_default_all_is_checked_that_fits(
    words: tuple[str, ...], results: Path, model_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "checked"
    done = run(*words, *FEW, "--out", str(out))
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0] == "cost: 3 images without a word and 3 runs of daam"
    assert lines[1] == f"{model_folder}: how far can it be trusted?"
    assert f"{model_folder}: games of the steps" in lines
    left_out = [line.partition(": nothing can judge the images")[0] for line in lines if line.startswith("left out")]
    assert left_out == ["left out: the score with the prompt"]  # this model has no CLIP
    assert lines[-1] == f"results in {out}"
    assert shown(out) == ALWAYS | OF_GAMES | {"words.png", "words", "removal.png", "randomisation.png"}
    rows = rows_of(out / "trust.csv")
    checks = ["removal", "removal", "randomisation", "seeds", "seeds", "noise"]
    assert [row["check"] for row in rows] == checks
    verdicts = ("passed", "failed", "inconclusive")
    table = [line.split() for line in lines if line.startswith(tuple(checks)) and line.rstrip().endswith(verdicts)]
    assert [(row[0], row[-1]) for row in table] == [(row["check"], row["verdict"]) for row in rows]
    for name in ("trust.png", "removal.png", "randomisation.png", "curves.png"):
        with Image.open(out / name) as picture:
            assert min(picture.size) > 200
    read = Page((out / "report.html").read_text(encoding="utf-8"))
    told = [row.text for row in read.all("tr") if row.text.endswith(("passed", "failed", "inconclusive"))]
    assert len(told) == 6
    for line, row in zip(told, rows, strict=True):
        assert line.startswith(row["number"])
        assert line.endswith(row["control"] + row["verdict"])


def test_the_checks_are_those_of_the_library(
    words: tuple[str, ...], results: Path, model_folder: Path, tmp_path: Path
) -> None:
    given = ("--check", "randomisation", "--check", "noise", "--repeats", "2", "--stages", "3", "--strength", "0.2")
    done = run(*words, *given, "--json", "--out", str(tmp_path / "checked"))
    assert (done.code, done.err) == (0, "")
    printed = json.loads(done.out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert set(printed) == {"trust", "rows", "skipped", "notes", "folder"}
    model, made = sfumato.load(str(model_folder)), open_explanation(results / "words")
    found = trust(model, made, ["randomisation", "noise"], repeats=2, stages=3, strength=0.2)
    assert printed["trust"] == json_value(found.rows())
    assert (tmp_path / "checked" / "trust.csv").read_text(encoding="utf-8") == as_csv(found.rows())
    assert float(rows_of(tmp_path / "checked" / "trust.csv")[0]["value.low"]) == printed["trust"][0]["value"]["low"]
    assert (printed["rows"], printed["skipped"], printed["folder"]) == ([], [], str(tmp_path / "checked"))
    stored = open_explanation(tmp_path / "checked", verify=True)
    settings = {"checks": ["randomisation", "noise"], "repeats": 2, "stages": 3, "strength": 0.2}
    assert stored.provenance["checked"] == settings
    for node in found.explanation.tree.subtree:
        assert stored.tree[node.path].to_dataset(inherit=False).load().identical(node.to_dataset(inherit=False))


def test_one_check_alone(words: tuple[str, ...], tmp_path: Path) -> None:
    out = tmp_path / "checked"
    done = run(*words, "--check", "removal", "--out", str(out))
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[0] == "cost: 3 images without a word and 0 runs of daam"
    assert "games" not in done.out
    assert shown(out) == ALWAYS | {"words.png", "words", "removal.png"}
    assert [row["check"] for row in rows_of(out / "trust.csv")] == ["removal", "removal"]
    assert open_explanation(out).tree["removal"]["word"].values.tolist() == ["red", "cat", "dog"]


def test_what_was_checked_can_be_opened_and_checked_again(words: tuple[str, ...], tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert run(*words, "--check", "seeds", "--repeats", "1", "--out", str(first)).code == 0
    opened = run("open", str(first), "--report", str(tmp_path / "page.html"))
    assert (opened.code, opened.err) == (0, "")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == (first / "report.html").read_text(encoding="utf-8")
    done = run("judge", str(first), *words[2:], "--check", "seeds", "--repeats", "2", "--out", str(second))
    assert (done.code, done.err) == (0, "")
    assert open_explanation(second).tree["shares_by_seed"].sizes["seed"] == 3


def test_several_explanations_have_a_folder_each(words: tuple[str, ...], results: Path, tmp_path: Path) -> None:
    out = tmp_path / "checked"
    done = run(*words, str(results / "more"), "--check", "noise", "--repeats", "1", "--json", "--out", str(out))
    assert (done.code, done.err) == (0, "")
    assert shown(out) == {"1", "2"}
    for number, prompt in (("1", SMALL.prompt), ("2", "blue dog")):
        assert shown(out / number) == ALWAYS | {"words.png", "words"}
        assert open_explanation(out / number, verify=True).request.prompt == prompt
    printed = json.loads(done.out)
    assert [row["explanation"] for row in printed["trust"]] == [1, 2]
    for number, row in enumerate(printed["trust"], start=1):
        row.pop("explanation")
        assert rows_of(out / str(number) / "trust.csv") == list(csv.DictReader(io.StringIO(as_csv([row]))))


def test_what_does_not_fit_is_left_out_and_told(results: Path, model_folder: Path, tmp_path: Path) -> None:
    given = ("--model", str(results / "labels"), *FEW, "--out", str(tmp_path / "steps"))
    done = run("judge", str(results / "steps"), *given)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0] == "cost: 0 images without a word and 3 runs of step_baselines"
    assert "left out: removal: the explanation has no maps of the prompt's words" in lines
    assert shown(tmp_path / "steps") == ALWAYS | OF_GAMES | {"saliency.png", "randomisation.png"}
    done = run(
        "judge", str(results / "players"), "--model", str(model_folder), *ONCE, "--json", "--out", str(tmp_path / "p")
    )
    assert (done.code, done.err) == (0, "")
    printed = json.loads(done.out)
    assert [row["check"] for row in printed["trust"]] == ["randomisation", "seeds", "seeds", "noise"]
    games, removal = sorted(printed["skipped"])
    assert games.startswith("games: this explanation holds no map of the image; its nodes are:")
    assert removal == "removal: the explanation has no maps of the prompt's words"
    assert shown(tmp_path / "p") == ALWAYS | {"lime.png", "randomisation.png"}


def test_what_is_to_be_noted_about_the_words_is_not_said_for_every_run(
    words: tuple[str, ...], model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.warns(SfumatoWarning, match="cut off after 77 tokens"):
        made = sfumato.explain(sfumato.load(str(model_folder)), SMALL.with_(prompt="cat " * 80, steps=1))
    made.save(tmp_path / "long")
    monkeypatch.setattr("sfumato.report.folder.fill_folder", lambda *given: None)  # seventy words take a while
    done = run("judge", str(tmp_path / "long"), *words[2:], "--check", "seeds", "--out", str(tmp_path / "checked"))
    assert (done.code, done.err) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--check", "magic"), "there is no check 'magic'; choose from: removal, randomisation, seeds, noise, games"),
        (("--check", "removal", "--check", ""), "there is no check ''; choose from: removal"),
        (("--repeats", "0"), "'--repeats': Input should be greater than or equal to 1"),
        (("--repeats", "two"), "--repeats': Input should be a valid integer"),
        (("--stages", "0"), "'--stages': Input should be greater than or equal to 1"),
        (("--check", "games", "--check", "seeds", "--stages", "-1"), "'--stages': Input should be greater"),
        (("--strength", "0"), "strength is 0.0; expected a number between 0 and 1, both excluded"),
        (("--strength", "1"), "strength is 1.0"),
        (("--strength", "nan"), "strength is nan"),
    ],
)
def test_wrong_settings_are_one_line_and_leave_nothing(
    arguments: tuple[str, ...], message: str, words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sfumato.judging.evaluation.judge", lambda *given, **more: pytest.fail("made before"))
    done = run(*words, *arguments, "--out", str(tmp_path / "new" / "checked"))
    assert message in done.error
    assert done.out == ""
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_checked_is_one_line_and_leaves_nothing(
    words: tuple[str, ...], results: Path, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sfumato.judging.evaluation.trust", lambda *given, **more: pytest.fail("made before"))
    out = ("--out", str(tmp_path / "checked"))
    assert (
        "has 2 images; select one of them first"
        in run(*words, str(results / "several"), *FEW[:-2], "--check", "seeds", *out).error
    )
    labels = ("--model", str(results / "labels"), "--check", "removal", *out)
    assert (
        "removal cannot be checked: the explanation has no maps" in run("judge", str(results / "steps"), *labels).error
    )
    assert "with other weights than those of" in run("judge", str(results / "words"), *labels).error
    assert (
        "holds no map of the image"
        in run("judge", str(results / "players"), *words[2:], "--check", "games", *out).error
    )
    assert not list(tmp_path.iterdir())


def stop(*given: Any, **more: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("moment", "check"),
    [
        ("sfumato.judging.judge.perturbation_curves", "games"),
        ("sfumato.judging.removal.remaining", "removal"),
        ("sfumato.judging.randomising.again", "randomisation"),
        ("sfumato.judging.steadiness.again", "noise"),
        ("sfumato.report.folder.write_report", "seeds"),
    ],
)
def test_ctrl_c_leaves_nothing(
    moment: str, check: str, words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moment, stop)
    done = run(*words, *FEW, "--check", check, "--out", str(tmp_path / "new" / "checked"))
    assert (done.code, done.err) == (130, "stopped; nothing was written\n")
    assert not list(tmp_path.iterdir())


def test_ctrl_c_at_the_end_says_that_all_is_there(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sfumato.cli.tables.say_rows", stop)
    out = tmp_path / "checked"
    done = run(*words, "--check", "noise", "--repeats", "1", "--out", str(out))
    assert (done.code, done.err) == (130, f"stopped; the results are whole, in {out}\n")
    assert "trust.csv" in shown(out)
    open_explanation(out, verify=True)
