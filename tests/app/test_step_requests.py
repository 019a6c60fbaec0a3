"""The form of the tab Steps becomes requests and options; what cannot be is said in one line."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

import pytest

import sfumato
from sfumato.app.asking.links import Asked
from sfumato.app.asking.step_requests import BASELINES, START, StepsAsked, askable, fits, steps_of, timesteps
from sfumato.app.asking.step_results import areas, games_of, looked, panes_of, sentence
from sfumato.app.server.workers import Job
from sfumato.errors import ModelError, OptionError, RequestError, SfumatoError
from sfumato.models.model import Model
from tests.references import tiny_references

BASE = Asked("m", "a red circle", steps="4")


@pytest.fixture(scope="module")
def scenes() -> Any:
    return sfumato.load("studio/scenes")


def asked(**chosen: Any) -> StepsAsked:
    return StepsAsked.of(BASE, {"at": [1, 3]} | chosen)


def job() -> Job[Any]:
    return Job("nobody", lambda model, job: None)


def test_the_form_becomes_a_request_under_each_schedule(scenes: Model) -> None:
    one, other = asked(schedule="uniform", other="late").requests(scenes)
    assert (one.schedule, other.schedule) == (None, "late")
    assert one.with_(schedule="late") == other
    assert asked(schedule="window", high=" 700 ", low="400").written("window") == "window:700-400"


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"schedule": "window", "high": "300", "low": "600"}, "give the larger timestep first"),
        ({"schedule": "window", "high": "300", "low": "300"}, "give the larger timestep first"),
        ({"schedule": "window", "high": "", "low": "300"}, "lacks a bound"),
        ({"schedule": "window", "high": "1001", "low": "3"}, "from 0 to 1000"),
        ({"schedule": "window", "high": "6e2", "low": "3"}, "expected a whole number"),
        ({"schedule": "window", "high": "600", "low": "300"}, "8 steps or more"),
        ({"schedule": "sideways"}, "there is no schedule 'sideways'"),
        ({"schedule": "late", "other": "late"}, "both schedules are late"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(scenes: Model, chosen: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        asked(**chosen).requests(scenes)


@pytest.mark.parametrize(
    ("chosen", "error", "said"),
    [
        ({"at": []}, RequestError, "no step is chosen"),
        ({"at": [4]}, RequestError, "steps 0 to 3"),
        ({"at": [-1]}, RequestError, "steps 0 to 3"),
        ({"at": list(range(9))}, RequestError, "8 or fewer"),
        ({"methods": []}, OptionError, "nothing is asked"),
        ({"methods": ["rm -rf"]}, OptionError, "nothing is asked"),
        ({"masks": "9999999"}, RequestError, "from 4 to 1000"),
        ({"until": "none"}, RequestError, "expected a number"),
        ({"masking": "/etc/passwd"}, OptionError, "choose from: iid, grid"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    scenes: Model, chosen: dict[str, Any], error: type[SfumatoError], said: str
) -> None:
    with pytest.raises(error, match=said):
        asked(**chosen).cost(scenes)


@pytest.mark.parametrize(
    "chosen", [None, 3, "x", [], {"at": "12", "methods": 5, "schedule": ["a"]}, {"at": [True, 1.5]}]
)
def test_a_script_may_send_anything(chosen: Any) -> None:
    found = StepsAsked.of(BASE, chosen)
    assert all(type(step) is int for step in found.at)
    assert isinstance(found.schedule, str)


@pytest.mark.parametrize(
    "one",
    [
        StepsAsked.of(Asked("studio/scenes", "a & b = c? #1 <b>", seed="7", steps="9"), START),
        StepsAsked.of(
            Asked("m", "圆 🙂", steps="20"), {"schedule": "window", "high": "1", "low": "", "at": [], "masks": "9"}
        ),
        StepsAsked.of(Asked("m", "a", steps="3"), {"other": "late", "at": [0, 2], "methods": ["lime", "df_cam"]}),
    ],
)
def test_a_link_says_the_same_again(one: StepsAsked) -> None:
    assert StepsAsked.from_query(dict(parse_qsl(one.link, keep_blank_values=True)), "other") == one


def test_a_link_may_say_anything(scenes: Model) -> None:
    one = StepsAsked.from_query(
        {"look": "x" * 10**6, "at": "1,-4,x", "ask": "rm", "schedule": "../etc", "count": "9"}, "m"
    )
    assert (one.at, one.methods) == ((1,), ())
    with pytest.raises(RequestError, match="there is no schedule"):
        one.requests(scenes)


def test_every_question_costs_something_and_baselines_are_asked_together(scenes: Model) -> None:
    some = asked(methods=["df_cam", "relevance", "gradient", "lime"], other="early")
    options = some.options(scenes, some.requests(scenes)[0])
    assert list(options) == ["df_cam", "step_baselines", "relevance"]
    assert options["step_baselines"]["kinds"] == ("gradient", "lime")
    assert options["relevance"]["at"] == (0, 1, 2, 3)
    cost = some.cost(scenes)
    assert all(name in cost for name in ("DF-CAM", "baselines", "relevance", "twice"))


def test_models_that_need_pictures_are_sent_to_their_tab(scenes: Model) -> None:
    reads = sfumato.wrap(tiny_references())
    assert fits(scenes)
    assert not fits(reads)
    with pytest.raises(ModelError, match="the tab Reference"):
        asked().requests(reads)


def test_a_model_of_labels_is_asked_what_it_can_answer() -> None:
    faces = sfumato.load("studio/faces")
    assert fits(faces)
    assert not {"relevance", "attention"} & set(askable(faces))
    some = StepsAsked.of(Asked("m", "0011", steps="4"), {"at": [2], "methods": ["relevance", "df_cam"]})
    assert list(some.options(faces, some.requests(faces)[0])) == ["df_cam"]


def test_the_drawing_shows_the_timesteps_that_are_run(scenes: Model) -> None:
    found = timesteps(scenes, asked(high="600", low="300"), 12)
    assert all(len(times) == 12 and times == sorted(times, reverse=True) for times in found.values())
    assert sum(time > 500 for time in found["early"]) < sum(time > 500 for time in found["late"])
    assert sum(300 <= time <= 600 for time in found["window"]) >= 6
    assert "window" not in timesteps(scenes, asked(high="3", low="300"), 12)
    assert "window" not in timesteps(scenes, asked(), 4)
    assert len(timesteps(None, asked(), 7)["uniform"]) == 7


@pytest.mark.parametrize(("text", "count"), [("", 12), (" 5 ", 5)])
def test_steps_left_empty_are_the_tabs_own(text: str, count: int) -> None:
    assert steps_of(text) == count
    with pytest.raises(RequestError, match="from 1 to 200"):
        steps_of("201")


def test_steps_are_looked_at_and_a_map_is_checked(scenes: Model) -> None:
    found = looked(scenes, asked(methods=["df_cam", "relevance"], at=[1, 2]), job())
    (pane,) = panes_of(found)
    assert [one["step"] for one in pane["steps"]] == [1, 2]
    assert pane["steps"][0]["picture"].shape == (128, 128, 3)
    cam, led = pane["rows"]
    assert (cam["name"], list(cam["choices"])) == ("df_cam", [""])
    assert list(led["choices"]) == ["", "a", "red", "circle"]
    assert led["choices"][""].shape[0] == 2
    with pytest.raises(SfumatoError, match="its maps are: "):
        games_of(scenes, found[0], "lime", 1, "local_ssim", job())
    with pytest.raises(SfumatoError, match="no map at step 3"):
        games_of(scenes, found[0], "df_cam", 3, "local_ssim", job())
    with pytest.raises(SfumatoError, match="no measure 'x'"):
        games_of(scenes, found[0], "df_cam", 1, "x", job())
    verdict = games_of(scenes, found[0], "df_cam", 1, "local_ssim", job(), points=4)
    rows = areas(verdict)
    assert [(row["game"], row["higher"]) for row in rows] == [("deletion", True), ("insertion", False)]
    for row in rows:
        own = row["areas"]["df_cam"]
        better = [name for name, other in row["areas"].items() if (own > other if row["higher"] else own < other)]
        assert row["beaten"] == better
        assert f"area {own:.2f}" in sentence(verdict, "DF-CAM")


def test_relevance_alone_still_shows_what_the_steps_recover(scenes: Model) -> None:
    (pane,) = panes_of(looked(scenes, asked(methods=["relevance"], at=[2]), job()))
    assert len(pane["steps"]) == 1
    assert [row["name"] for row in pane["rows"]] == ["relevance"]


def test_what_the_form_holds_at_first_can_be_asked(scenes: Model) -> None:
    first = StepsAsked.of(Asked("m", "a red circle", steps="12"), START)
    assert first.cost(scenes)
    assert not set(BASELINES) & set(first.methods)
