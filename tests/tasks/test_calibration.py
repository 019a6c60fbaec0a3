"""Fitting attention to information: made-up maps whose weights are known, then runs from the prompts to the file."""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import sfumato
from sfumato.errors import ModelError, OptionError
from sfumato.information.calibrating import FOLDS, GROUPS, fitted_weights, load_calibration, sums_of
from sfumato.models.lexicon import pos
from sfumato.models.model import Model
from sfumato.models.words import split
from sfumato.progress import silent
from sfumato.request import Request
from sfumato.results.interval import Interval
from sfumato.runs.finding import Finding
from sfumato.runs.opened import Run
from sfumato.runs.running import conclude_run
from sfumato.runs.task import Item, Record, find_task
from sfumato.tasks import calibration
from sfumato.tasks.calibration import AGREEMENT, FILE, CalibrationOptions, attention_of
from sfumato.tasks.shared.captions import drawn_captions
from tests.cli.running import run
from tests.labels import tiny_labels

LAYERS = ["down.0", "up.1"]
HEADS = np.array([[True, True], [True, False]])
ABOUT = {"model": "made up", "rows": 8}


@pytest.fixture(scope="module")
def scenes() -> Model:
    """The embedded model."""
    return sfumato.load("studio/scenes")


@pytest.fixture(scope="module")
def done(scenes: Model, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Five prompts; never written to."""
    out = tmp_path_factory.mktemp("runs") / "run"
    return sfumato.run("calibration", scenes, out=out, prompts=5, samples=3, common={"steps": 2, "seed": 7})


def made_up(count: int, seed: int = 0) -> list[tuple[Item, Record]]:
    """Prompts of three words whose information is the square of the first head of the last layer, in the last part."""
    chance = np.random.default_rng(seed)
    found = []
    for number in range(count):
        features = chance.random((GROUPS, 2, 2, 3, 6, 5)) ** 3
        features[:, ~HEADS] = 0
        features = features.astype(np.float16)
        target = features[-1, 1, 0].astype(np.float32) ** 2
        request = Request(f"{number} red circles", seed=number, steps=10, scheduler="ddim", guidance=2.0)
        values = {"layers": LAYERS, "weights_sha256": "abc"}
        arrays = {"features": features, "heads": HEADS}
        rows = [{"word": word, "nats": 1.0} for word in ("two", "red", "circles")]
        found.append((Item(request), Record(values, arrays, rows, {"information": target})))
    return found


def concluded(records: Any) -> Finding:
    found: Finding = find_task("calibration").parts.conclude(records, CalibrationOptions(samples=4), ABOUT)
    return found


def test_the_weight_that_made_the_information_is_found_and_predicts_unseen_prompts() -> None:
    given = made_up(8)
    found = concluded(given)
    plain, calibrated, gain = (row[AGREEMENT] for row in found.rows)
    assert [row["maps"] for row in found.rows] == ["plain attention", "calibrated, unseen prompts", "gain"]
    assert calibrated.mean > 0.95 > plain.mean + 0.3
    assert gain.mean == pytest.approx(calibrated.mean - plain.mean)
    assert (found.name, found.source, found.verdict) == ("calibration", calibration.SOURCE, "replicated")
    assert found.figure is not None
    weights = json.loads(found.files[FILE])["weights"]
    assert weights["up.1"][-1][0] > 0.9
    assert [one[1] for one in weights["up.1"]] == [0] * GROUPS  # the head that the layer does not have
    assert np.sum([*weights.values()]) == pytest.approx(1)


def test_the_weights_are_those_of_all_prompts_together_and_all_facts_are_told() -> None:
    given = made_up(7)
    found = concluded(given)
    sums = [
        sums_of(one.arrays["features"].astype(float).reshape(-1, 3, 6, 5), one.maps["information"].astype(float))
        for _, one in given
    ]
    weights = fitted_weights(sums, found.about["ridge"])
    content = json.loads(found.files[FILE])
    expected = (weights / weights.sum()).reshape(GROUPS, 2, 2).round(8)
    np.testing.assert_array_equal(np.array([content["weights"][name] for name in LAYERS]).swapaxes(0, 1), expected)
    assert found.sentence.endswith(f"{(weights > 0).sum()} of {weights.size} weights are above 0.")
    facts = {"prompts": 7, "images": 7, "seeds": "0 to 6", "steps": 10, "scheduler": "ddim", "guidance": 2.0}
    facts |= {"samples": 4, "folds": FOLDS, "weights_sha256": "abc", "model": "made up"}
    assert content["about"].items() >= facts.items()
    assert set(content["about"]) == set(facts) | {"ridge", "explained"}
    assert found.about == ABOUT | content["about"]


def test_layers_are_known_by_their_names() -> None:
    given = made_up(6)
    mixed = [
        (item, replace(one, values=one.values | {"layers": LAYERS[::-1]}, arrays={"features": turned, "heads": HEADS}))
        for item, one in given[1:]
        for turned in [one.arrays["features"][:, ::-1]]
    ]
    one, other = concluded(given), concluded([given[0], *mixed])
    assert (one.files, one.rows) == (other.files, other.rows)


def test_words_that_tell_nothing_have_no_agreement() -> None:
    given = made_up(6)
    item, record = given[2]
    given[2] = item, replace(record, maps={"information": np.zeros((3, 6, 5), np.float32)})
    assert [row[AGREEMENT].n for row in concluded(given).rows] == [5, 5, 5]


def test_too_few_prompts_with_a_result_give_no_weights() -> None:
    found = concluded(made_up(4))
    assert (found.verdict, found.rows, found.files, found.figure) == ("inconclusive", [], {}, None)
    assert found.sentence == "4 prompts have a result; weights need 5 or more."


def test_maps_of_few_prompts_are_in_memory_at_once() -> None:
    alive: set[int] = set()
    most = 0

    class Fresh:
        def __len__(self) -> int:
            return 12

        def __iter__(self) -> Iterator[tuple[Item, Record]]:
            nonlocal most
            for number in range(12):
                ((item, record),) = made_up(1, number)
                key = id(record)
                alive.add(key)
                weakref.finalize(record, alive.discard, key)
                most = max(most, len(alive))
                yield item, record

    concluded(Fresh())
    assert most <= 3  # the first one, and one that is let go when the next is there


def test_attention_is_kept_by_part_of_the_run_layer_and_head(scenes: Model) -> None:
    request = scenes.complete(Request("two red circles", seed=1, steps=5))
    words = split(request.prompt, pos)
    features, names, present = attention_of(scenes, request, words, silent)
    groups, layers, heads, count = features.shape[:4]
    assert features.dtype == np.float16
    assert (groups, count) == (GROUPS, 3)
    assert len(set(names)) == layers
    assert present.shape == (layers, heads)
    plain = sfumato.explain(scenes, request, "daam").words["map"].values
    heads_of_all = np.broadcast_to(present, (groups, layers, heads)).astype(np.float64)
    mean = np.einsum("glh,glhwyx->wyx", heads_of_all, features.astype(np.float64)) / heads_of_all.sum()
    np.testing.assert_allclose(mean, plain, atol=2e-3)  # half precision
    last, _, _ = attention_of(scenes, request, words[2:], silent)
    np.testing.assert_array_equal(last, features[:, :, :, 2:])


def test_a_calibration_is_made_kept_and_used(done: Run, scenes: Model) -> None:
    finding = Finding.from_json(done.finding)
    assert [row["maps"] for row in finding.rows] == ["plain attention", "calibrated, unseen prompts", "gain"]
    assert all(isinstance(row[AGREEMENT], Interval) and row[AGREEMENT].n == 5 for row in finding.rows)
    told = {"samples": 3, "prompts": 5, "seeds": "7 to 11", "steps": 2, "model": "studio/scenes"}
    assert finding.about.items() >= told.items()
    assert done.finding["files"] == [FILE]
    made = load_calibration(str(done.folder / FILE))
    assert made.weights.min() >= 0
    assert made.weights.sum() == pytest.approx(1)
    assert made.about["weights_sha256"] == finding.about["weights_sha256"]
    found = sfumato.explain(scenes, Request(drawn_captions(1)[0], steps=2), "daam", calibration=str(done.folder / FILE))
    assert np.isfinite(found.words["map"].values).all()


def test_every_word_is_a_row_with_its_information(done: Run) -> None:
    captions = drawn_captions(5)
    assert done.items["word"].tolist() == [word.text for one in captions for word in split(one, pos)]
    assert done.items["nats"].notna().all()
    np.testing.assert_allclose(done.map_of(2, "information").sum(), done.items["nats"][2], rtol=1e-5)


def test_what_was_measured_is_not_measured_again(
    done: Run, scenes: Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(calibration, "explain", lambda *given, **more: pytest.fail("an image was made"))
    before = {name: (done.folder / name).read_bytes() for name in ("finding.json", "table.csv", FILE)}
    again = sfumato.run("calibration", scenes, out=done.folder, prompts=5, samples=3, common={"steps": 2, "seed": 7})
    conclude_run(done.folder)
    assert {name: (again.folder / name).read_bytes() for name in before} == before
    pd.testing.assert_frame_equal(again.items, done.items)


def test_a_model_without_words_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="calibration needs words, which"):
        sfumato.run("calibration", sfumato.wrap(tiny_labels()), out=tmp_path / "run", prompts=["a red circle"] * 5)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_prompt_without_a_word_is_a_row_without_a_result(scenes: Model, tmp_path: Path) -> None:
    prompts: Any = [Request("", seed=1), *(Request(f"a {one} circle") for one in ("red", "blue", "green", "yellow"))]
    given: dict[str, Any] = {"common": {"steps": 1}, "samples": 2}
    found = sfumato.run("calibration", scenes, out=tmp_path / "run", prompts=prompts, **given)
    assert (found.counts.ok, found.counts.failed) == (4, 1)
    (reason,) = found.items["reason"].replace("", None).dropna()
    assert "\n" not in reason
    assert found.finding["rows"] == []
    assert not (found.folder / FILE).exists()


def test_too_few_prompts_are_refused_before_any_image(
    scenes: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "explain", lambda *given, **more: pytest.fail("an image was made"))
    with pytest.raises(OptionError, match="4 prompts are too few to be divided into 5 parts; give 5 or more"):
        sfumato.run("calibration", scenes, out=tmp_path / "run", prompts=4)
    with pytest.raises(OptionError, match="prompts is 0"):
        sfumato.run("calibration", scenes, out=tmp_path / "run", prompts=0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["calibrate", "run calibration"])
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--prompts", "missing.txt"), "missing.txt' cannot be read: No such file or directory"),
        (("--prompts", "1234567"), "prompts is 1234567; expected a whole number from 1 to 100000"),
        (("--prompts", "2", "--steps", "1", "--samples", "2"), "2 prompts are too few to be divided into 5 parts"),
        (("--samples", "1"), "'--samples': Input should be greater than or equal to 2"),
    ],
)
def test_wrong_input_is_one_line_and_leaves_nothing(
    command: str, arguments: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    out = tmp_path / "new"
    done = run(*command.split(), *arguments, "--out", str(out))
    assert done.code == 2
    assert said in done.err.splitlines()[-1]
    assert not out.exists()
