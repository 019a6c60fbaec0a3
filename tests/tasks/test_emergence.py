"""The task of emergence: what it measures, what it makes of made-up numbers, and what it refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import wraps
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers import StableDiffusionPipeline
from numpy.typing import NDArray
from PIL import Image

import sfumato
from sfumato.errors import ModelError, OptionError
from sfumato.metrics.structure import normalised_ssim
from sfumato.models.model import Model
from sfumato.models.schedulers import schedule_of
from sfumato.pipelines.label_pipeline import LabelPipeline
from sfumato.request import Request
from sfumato.runs.finding import Finding
from sfumato.runs.running import run
from sfumato.runs.task import Item, Record, find_task
from sfumato.tasks import emergence
from sfumato.tasks.emergence import CLAIM, EmergenceOptions
from tests.labels import tiny_labels, tiny_unconditional
from tests.pipelines import fingerprint

STEPS, FIRST = 20, 5
MORE = (-0.02, -0.01, 0.0, 0.01, 0.02)
"""What each seed adds to all numbers, which no difference may depend on."""
ASKED = {"label": "0011", "steps": STEPS, "guidance": 2.0, "seed": FIRST}

Curve = NDArray[np.float64]
Judged = Callable[[Curve, Callable[[float], Curve]], Finding]


@pytest.fixture(scope="module")
def model() -> Model:
    return sfumato.wrap(tiny_labels(prediction_type="v_prediction"))


@pytest.fixture(scope="module")
def times(model: Model) -> Curve:
    """949, 899 and so on to 0: the timesteps of the samples after each of 20 steps."""
    schedule = schedule_of(model, model.complete(Request(label="0110", steps=STEPS)))
    return np.array([*schedule[1:], 0.0])


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """No figure is drawn."""
    monkeypatch.setattr(emergence, "curves_sheet", lambda *shown: Image.new("RGB", (8, 8)))


@pytest.fixture
def judged(undrawn: None) -> Judged:
    """What is concluded from curves that are made from a seed's amount."""

    def judge(times: Curve, made: Callable[[float], Curve]) -> Finding:
        records = [
            (Item(Request(label="0110", seed=seed)), Record(arrays={"ssim": made(more), "timestep": times}))
            for seed, more in enumerate(MORE)
        ]
        return find_task("emergence").parts.conclude(records, EmergenceOptions(), {"model": "made up"})

    return judge


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seed of every finished generation."""
    made: list[int] = []
    own = LabelPipeline.__call__

    @wraps(own)
    def call(self: LabelPipeline, *args: Any, **kwargs: Any) -> Any:
        result = own(self, *args, **kwargs)
        made.extend(one.initial_seed() for one in kwargs["generator"])
        return result

    monkeypatch.setattr(LabelPipeline, "__call__", call)
    return made


def ssim_of(folder: Path) -> NDArray[np.float64]:
    """What was recorded (seed, step)."""
    return np.stack([record.arrays["ssim"] for _, record in sfumato.open_run(folder).records()])


def sure(value: float) -> str:
    """A mean that all seeds agree on, as a sentence has it."""
    return f"{value:.3f} [{value:.3f}, {value:.3f}] (n=5)"


def emerging(times: Curve, *, start: float = 0.2, plateau: float = 0.8, dip: float = 0.5, end: float = 0.8) -> Curve:
    """A rise to a plateau from t = 350 on, a dip in the last 100 timesteps, and where it ends."""
    row = np.interp(times, [350, 900], [plateau, start])
    row[times <= 100] = dip
    row[-1] = end
    return row


def test_emergence_is_a_rise_a_plateau_a_dip_and_a_rise(judged: Judged, times: Curve) -> None:
    found = judged(times, lambda more: emerging(times) + more)
    assert found.verdict == "replicated"
    assert f"around t = 250 normalised SSIM changes by {sure(0.6)}" in found.sentence
    assert f"falls by {sure(0.3)} below the plateau and comes back by {sure(0.3)}" in found.sentence
    assert [row["timestep"] for row in found.rows] == [949, 749, 499, 249, 99, 49, 0]
    np.testing.assert_allclose([row["normalised ssim"] for row in found.rows][-4:], [0.8, 0.5, 0.5, 0.8])
    np.testing.assert_allclose([row["sd over seeds"] for row in found.rows], np.std(MORE))


@pytest.mark.parametrize(
    ("wrong", "verdict"),
    [
        ({"start": 0.8}, "inconclusive"),
        ({"start": 0.9}, "not replicated"),
        ({"dip": 0.8}, "inconclusive"),
        ({"dip": 0.9, "end": 0.95}, "not replicated"),
        ({"end": 0.5}, "inconclusive"),
        ({"dip": 0.4, "end": 0.3}, "inconclusive"),
    ],
)
def test_other_curves_are_no_emergence(judged: Judged, times: Curve, wrong: dict[str, float], verdict: str) -> None:
    found = judged(times, lambda more: emerging(times, **wrong) + more)
    assert found.verdict == verdict


@pytest.mark.parametrize("wrong", [{"start": 0.9}, {"dip": 0.9, "end": 0.95}, {"end": 0.4}])
def test_a_curve_of_some_seeds_is_not_enough(judged: Judged, times: Curve, wrong: dict[str, float]) -> None:
    found = judged(times, lambda more: emerging(times, **(wrong if more >= 0 else {})))
    assert found.verdict == "inconclusive"


def test_the_share_of_rising_steps_is_that_before_the_plateau(judged: Judged, times: Curve) -> None:
    """Of 14 samples before t = 250 the last two have the same: 12 of 13 steps rise, and the later ones do not count."""
    curve = np.interp(times, [300, 1000], [0.8, 0.1])
    curve[times == 299] = curve[times == 349]
    found = judged(times, lambda more: curve + more)
    assert "Before the plateau 92% of the steps rise." in found.sentence


def test_every_sample_is_compared_with_the_one_before(model: Model, tmp_path: Path) -> None:
    before = fingerprint(model.pipeline)
    done = run("emergence", model, out=tmp_path, seeds=3, **ASKED)
    found, rows = Finding.from_json(done.finding), ssim_of(tmp_path)
    assert fingerprint(model.pipeline) == before
    for seed, row in zip((5, 6, 7), rows, strict=True):
        profile = sfumato.explain(model, Request(**ASKED | {"seed": seed}), "profile", objects="samples", every=1)
        samples = profile.tree["samples"].to_dataset()["latent"].values
        expected = [normalised_ssim(after, before) for before, after in pairwise(samples)]
        np.testing.assert_allclose(row, expected, atol=1e-5)
    assert [row["timestep"] for row in found.rows] == [949, 749, 499, 249, 99, 49, 0]
    places = [0, 4, 9, 14, 17, 18, 19]
    np.testing.assert_allclose([row["normalised ssim"] for row in found.rows], rows.mean(0)[places])
    np.testing.assert_allclose([row["sd over seeds"] for row in found.rows], rows.std(0)[places])
    assert (found.name, found.source, found.verdict) == ("emergence", CLAIM.text, "inconclusive")  # of three seeds
    with Image.open(tmp_path / "figure.png") as figure:
        pixels = np.asarray(figure.convert("L"))
    assert min(pixels.shape) > 200
    assert pixels.std() > 5
    assert re.search(r"-?\d\.\d{3} \[-?\d\.\d{3}, -?\d\.\d{3}\] \(n=3\)", found.sentence), found.sentence
    assert "nan" not in found.sentence
    expected = {"model": "LabelPipeline", "condition": "0011", "seeds": "5 to 7", "steps": STEPS}
    assert found.about.items() >= (expected | {"scheduler": "ddim", "guidance": 2.0}).items()
    json.loads((tmp_path / "finding.json").read_text(), parse_constant=pytest.fail)


def test_it_takes_a_sampler_and_goes_on_where_it_was(
    model: Model, undrawn: None, drawn: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ASKED | {"scheduler": "ddpm"}
    own = emergence.generate

    def stops(*given: Any, **more: Any) -> Any:
        if len(drawn) == 2:
            raise KeyboardInterrupt
        return own(*given, **more)

    with monkeypatch.context() as stopping:
        stopping.setattr(emergence, "generate", stops)
        with pytest.raises(KeyboardInterrupt):
            run("emergence", model, out=tmp_path / "run", batch=1, seeds=3, **asked)
    assert drawn == [5, 6]
    drawn.clear()
    found = run("emergence", model, out=tmp_path / "run", batch=1, seeds=3, **asked).finding
    assert drawn == [7]
    assert found["about"].items() >= {"scheduler": "ddpm", "steps": STEPS, "seeds": "5 to 7"}.items()
    assert found == run("emergence", model, out=tmp_path / "whole", batch=1, seeds=3, **asked).finding


@pytest.mark.parametrize("steps", [1, 6, 10])
def test_too_few_steps_for_a_plateau_are_refused(model: Model, drawn: list[int], tmp_path: Path, steps: int) -> None:
    with pytest.raises(OptionError, match=f"this run has {steps} steps, .* take 20 steps or more"):
        run("emergence", model, out=tmp_path / "run", seeds=2, **ASKED | {"steps": steps})
    assert drawn == []
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"seeds": 0}, OptionError, "seeds is 0; expected a whole number from 1 to 100000"),
        ({"seeds": True}, OptionError, "seeds is True; expected a whole number"),
        ({"label": "01"}, ModelError, "expected 4 bits"),
        ({"prompt": "a cat", "label": None}, ModelError, "takes no text; leave out the prompt"),
        ({"scheduler": "dddim"}, ModelError, "no scheduler 'dddim' fits this model"),
    ],
)
def test_what_cannot_be_used_is_refused_and_leaves_nothing(
    model: Model, drawn: list[int], tmp_path: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        run("emergence", model, out=tmp_path / "run", **ASKED | {"seeds": 2} | options)
    assert drawn == []
    assert not (tmp_path / "run").exists()


def test_a_model_that_is_told_nothing_can_be_followed(undrawn: None, tmp_path: Path) -> None:
    found = run("emergence", tiny_unconditional(), out=tmp_path, seeds=2, steps=STEPS).finding
    assert found["about"]["condition"] == "none"
    assert "nan" not in found["sentence"]


def test_prompts_are_followed_as_labels_are(
    tiny_pipeline: StableDiffusionPipeline, undrawn: None, tmp_path: Path
) -> None:
    found = run("emergence", tiny_pipeline, out=tmp_path, seeds=1, steps=STEPS, prompt="a red cat").finding
    assert found["about"]["condition"] == "a red cat"
    assert "(n=1)" in found["sentence"]
    assert "nan" not in found["sentence"]
