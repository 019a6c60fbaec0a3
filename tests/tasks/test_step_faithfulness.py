"""The saliency of steps: who takes part, what is counted, going on after a stop, and what is concluded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sfumato
from sfumato.errors import ModelError, OptionError
from sfumato.methods.df_rise import CHOICES
from sfumato.models.loading import load
from sfumato.request import Request
from sfumato.runs.finding import Finding
from sfumato.runs.task import Item, ModelFacts, Record, find_task
from sfumato.tasks import step_faithfulness
from sfumato.tasks.step_faithfulness import StepFaithfulness, StepFaithfulnessOptions
from tests.methods.test_costs import rows_made, rows_said
from tests.pipelines import Shape, stable_diffusion

MASKS = 8
COMPARED = ("methods", "similarities")


@pytest.fixture(scope="module")
def model() -> Any:
    return load("studio/scenes")


@pytest.fixture(autouse=True)
def few_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(step_faithfulness, "POINTS", 3)


def only(monkeypatch: pytest.MonkeyPatch, options: StepFaithfulnessOptions, *names: str) -> None:
    """Let some contenders alone compete."""
    some = tuple(one for one in options.competing if one.name in names)
    assert len(some) == len(names)
    monkeypatch.setattr(StepFaithfulnessOptions, "competing", property(lambda self: some))


@pytest.mark.soak
def test_every_method_and_control_plays_both_games_at_three_steps(model: Any, tmp_path: Path) -> None:
    run = sfumato.run("step_faithfulness", model, out=tmp_path / "run", prompts=1, masks=MASKS)
    played = run.items
    names = {"df_rise", "df_rise (grid)", "df_cam", "lime", "gradient", "integrated_gradients", "attention"}
    assert set(played["map"]) == names | {"random", "centre"}
    assert set(played["step"]) == {6, 12, 18}
    assert set(played["game"]) == {"deletion", "insertion"}
    values = [record.arrays["values"] for _, record in run.records()]
    assert all(one.shape[1] == 4 and np.isfinite(one).all() for one in values)
    assert sum(map(len, values)) == len(played)
    rows = run.finding["rows"]
    calls = {row["map"]: row["calls"] for row in rows}
    # a call for every mask and branch, and those for what they are compared with
    assert 2 * MASKS <= calls["df_rise"] <= 2 * MASKS + 6
    assert calls["df_cam"] < 6
    assert {row["calls"] for row in rows if row["map"] in ("random", "centre")} == {0.0}
    assert len(rows) == len(played.groupby(["game", "measure", "map"]))
    assert run.finding["verdict"] is None


@pytest.mark.soak
def test_similarities_are_compared_on_the_same_masks(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = StepFaithfulnessOptions("similarities", MASKS)
    *own, controls = [one.name for one in options.competing]
    assert own == [f"df_rise ({name})" for name in CHOICES["similarity"]]
    only(monkeypatch, options, *own[:2], controls)
    given: dict[str, Any] = {"compare": "similarities", "masks": MASKS}
    run = sfumato.run("step_faithfulness", model, out=tmp_path / "run", prompts=1, **given)
    assert set(run.items["map"]) == {"df_rise (structure)", "df_rise (local_ssim)", "random", "centre"}
    assert (run.finding["source"], run.finding["verdict"]) == ("", None)


@pytest.mark.soak
def test_a_run_that_was_stopped_goes_on_within_a_prompt(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, StepFaithfulnessOptions(masks=MASKS), "df_cam", "controls")
    explain, explained = step_faithfulness.explain, list[str]()

    def stopped(model: Any, request: Any, method: str, **given: Any) -> Any:
        if explained:
            raise KeyboardInterrupt
        explained.append(method)
        return explain(model, request, method, **given)

    def noted(model: Any, request: Any, method: str, **given: Any) -> Any:
        explained.append(method)
        return explain(model, request, method, **given)

    def fail(*given: Any, **more: Any) -> Any:
        raise AssertionError("explained again")

    given: dict[str, Any] = {"out": tmp_path / "run", "prompts": 1, "masks": MASKS}
    monkeypatch.setattr(step_faithfulness, "explain", stopped)
    with pytest.raises(KeyboardInterrupt):
        sfumato.run("step_faithfulness", model, **given)
    monkeypatch.setattr(step_faithfulness, "explain", noted)
    first = sfumato.run("step_faithfulness", model, **given)
    assert explained == ["df_cam", "step_baselines"]
    monkeypatch.setattr(step_faithfulness, "explain", fail)
    assert sfumato.run("step_faithfulness", model, **given).finding == first.finding
    assert {row["map"] for row in first.finding["rows"]} == {"df_cam", "random", "centre"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompts": 0}, "prompts is 0"),
        ({"compare": "both"}, "compare is 'both'.*" + ".*".join(COMPARED)),
        ({"masks": 3}, "masks is 3; expected a whole number from 4"),
    ],
)
def test_what_cannot_be_compared_is_refused(model: Any, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        sfumato.run("step_faithfulness", model, out=tmp_path / "run", **options)


def test_a_model_that_cannot_be_replayed_is_refused_before_any_image() -> None:
    facts = ModelFacts("drawn", "none", frozenset({"words"}), 128, 128)
    with pytest.raises(ModelError, match="df_rise needs replay"):
        StepFaithfulness().plan(facts, (), StepFaithfulnessOptions())


@pytest.mark.slow
def test_as_many_calls_are_made_as_were_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the smallest model, which has no CLIP for other distances: only calls of its denoiser are counted."""
    monkeypatch.setattr(step_faithfulness, "POINTS", 16)
    model = sfumato.wrap(stable_diffusion(Shape(latent_side=8)))
    request = model.complete(Request("a red circle"))
    task, options = find_task("step_faithfulness"), StepFaithfulnessOptions(masks=70)
    lines: list[str] = []
    given: dict[str, Any] = {"out": tmp_path / "run", "prompts": 1, "masks": 70}
    made = rows_made(model, lambda: sfumato.run("step_faithfulness", model, costs=lines.extend, **given))
    said = sum(rows_said(line, model, request) for line in lines)
    assert lines == task.costs(model, request, len(options.competing), options)
    assert len(lines) == len(options.competing) + 2
    assert lines[-1] == "all of it for each of 1 prompts, less where it was measured before"
    assert 0.8 * said < made < 1.02 * said
    with torch.no_grad():  # nothing is made again
        assert rows_made(model, lambda: sfumato.run("step_faithfulness", model, costs=pytest.fail, **given)) == 0


@pytest.mark.slow
def test_masks_and_games_tell_their_progress(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    options = StepFaithfulnessOptions(masks=MASKS)
    request = model.complete(Request("a red circle", steps=4))
    news: list[str] = []
    (found,) = StepFaithfulness().measure(
        *(model, [Item(request, {"contender": "df_rise (grid)"})], options),
        lambda what, done, total: news.append(what),
    )
    assert {"masks", "games"} <= set(news)
    assert {row["map"] for row in found.rows} == {"df_rise (grid)"}


def played(areas: Mapping[str, float], images: int = 6, prompts: int = 6) -> list[tuple[Item, Record]]:
    """Records of a contender each, whose maps have these areas in deletion and, where it is better, less in insertion.

    Distances are flat curves; an image adds what no other has, the same for all maps.
    """
    found = []
    for image in range(images):
        for name, area in areas.items():
            rows, values = [], []
            for game, level in (("deletion", area), ("insertion", 1 - area)):
                for measure in ("local_ssim", "features", "score"):
                    rows.append({"map": name, "step": 6, "game": game, "measure": measure})
                    values.append([level + 0.01 * image] * 4)
            arrays = {"shares": np.tile(np.linspace(0, 1, 4), (len(rows), 1)), "values": np.array(values)}
            told = {"calls": {name: len(name) + image}, "left_out": [], "notes": ["a note"]}
            item = Item(Request(f"{image % prompts} circles", seed=image, steps=25), {"contender": name})
            found.append((item, Record(told, arrays, rows)))
    return found


AREAS = {"df_rise": 0.7, "df_rise (grid)": 0.9, "df_cam": 0.6, "lime": 0.5, "random": 0.3, "centre": 0.4}


def concluded(areas: Mapping[str, float], images: int = 6, **given: Any) -> Finding:
    return StepFaithfulness().conclude(played(areas, images), StepFaithfulnessOptions(**given), {"model": "made up"})  # type: ignore[arg-type]


def test_both_published_methods_stand_beside_lime() -> None:
    found = concluded(AREAS)
    assert (found.source, found.verdict) == ("", None)
    assert "Of 8 comparisons of DF-RISE and DF-CAM with LIME, 8 are better and 0 worse" in found.sentence
    first = next(
        row for row in found.rows if (row["game"], row["measure"], row["map"]) == ("deletion", "features", "df_cam")
    )
    assert first["area"].mean == pytest.approx(0.6 + 0.025)
    assert (first["over lime"].mean, first["over centre"].mean) == pytest.approx((0.1, 0.2))
    assert first["area"].independent == 6
    assert first["calls"] == len("df_cam") + 2.5
    assert found.about["prompts"] == 6
    assert found.about["notes"] == ["a note"]
    assert found.figure is not None


def test_images_of_one_prompt_are_drawn_together() -> None:
    records: Any = played(AREAS, images=12, prompts=2)
    found = StepFaithfulness().conclude(records, StepFaithfulnessOptions(), {"model": "made up"})
    assert {row["area"].independent for row in found.rows} == {2}


def test_the_best_method_stands_beside_the_best_control() -> None:
    told = concluded(AREAS).sentence
    assert "over 6 images: deletion by local_ssim (higher is better) df_rise (grid) 0.925 [" in told
    assert "centre 0.425 [" in told
    assert "insertion by features (lower is better) df_rise (grid) 0.125 [" in told
    assert "random" not in told
    assert "score" not in told


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"df_cam": 0.45}, "4 are better and 4 worse"),
        ({"df_cam": 0.5}, "4 are better and 0 worse"),
        ({"df_rise": 0.1, "df_rise (grid)": 0.9}, "4 are better and 4 worse"),  # the published variant counts
    ],
)
def test_comparisons_with_lime_are_counted(changed: dict[str, float], said: str) -> None:
    assert f"Of 8 comparisons of DF-RISE and DF-CAM with LIME, {said}." in concluded(AREAS | changed).sentence


def test_without_lime_nothing_is_compared_with_it() -> None:
    assert "LIME" not in concluded({name: area for name, area in AREAS.items() if name != "lime"}).sentence


def test_similarities_are_not_compared_with_lime() -> None:
    found = concluded({"df_rise (structure)": 0.7, "random": 0.3, "centre": 0.4}, compare="similarities")
    assert (found.source, found.verdict) == ("", None)
    assert "LIME" not in found.sentence
    assert all("over lime" not in row for row in found.rows)


def test_maps_that_could_not_be_played_give_no_areas() -> None:
    item = Item(Request("a red circle", steps=25), {"contender": "df_cam"})
    told = {"calls": {"df_cam": 1.0}, "left_out": ["df_cam: df_cam is the same everywhere at step 6"], "notes": []}
    record = Record(told, {"shares": np.zeros(0), "values": np.zeros(0)})
    found = StepFaithfulness().conclude([(item, record)], StepFaithfulnessOptions(), {})  # type: ignore[arg-type]
    assert (found.verdict, found.rows, found.figure) == (None, [], None)
    assert found.sentence.startswith("No method had a map that could be played.")
    assert found.about["left_out"] == {"df_cam: df_cam is the same everywhere at step 6": 1}
