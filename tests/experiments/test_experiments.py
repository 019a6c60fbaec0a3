"""Experiments over seeds: what they measure is what the methods find, a stopped run goes on, bad input is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers import DDPMPipeline, DDPMScheduler, StableDiffusionPipeline, UNet2DModel
from numpy.typing import NDArray
from PIL import Image

import sfumato
from sfumato.cache import Cache
from sfumato.errors import ModelError, OptionError
from sfumato.experiments.experiment import NAMES, Setting, experiment, setting
from sfumato.metrics import bootstrap, effective_area
from sfumato.metrics.divergence import diverge
from sfumato.models.model import Model
from sfumato.models.schedulers import schedule_of
from sfumato.pipelines.label_pipeline import LabelPipeline
from sfumato.progress import Progress, silent
from sfumato.request import Request
from sfumato.results.rows import plain_rows
from sfumato.runs.finding import Finding
from sfumato.trace import generate
from tests.labels import SIDE, square, tiny_labels, tiny_unconditional
from tests.pipelines import fingerprint

FIRST = 5
OTHER = "1100"
PATCH = np.zeros((SIDE, SIDE), bool)
PATCH[4:6, 8:10] = True
Entries = dict[str, list[dict[str, NDArray[Any]]]]
Arrays = dict[str, NDArray[Any]]


def request(name: str) -> Request:
    """Four steps."""
    return Request(label="0011", steps=4, guidance=2.0)


def prepared(
    model: Model, name: str, seeds: int = 3, *, cache: Cache | None = None, progress: Progress = silent, **changes: Any
) -> Setting:
    given = {"first": FIRST, "request": request(name), "mask": PATCH, "other": OTHER} | changes
    return setting(model, seeds, progress=progress, cache=cache or Cache(None), **given)


def run(model: Model, name: str, seeds: int = 3, **given: Any) -> Finding:
    return experiment(name)(prepared(model, name, seeds, **given))


def assert_same(one: Finding, other: Finding) -> None:
    assert (one.sentence, one.verdict, one.rows, one.about) == (other.sentence, other.verdict, other.rows, other.about)


@pytest.fixture(scope="module")
def model() -> Model:
    return sfumato.wrap(tiny_labels(prediction_type="v_prediction"))


@pytest.fixture(scope="module")
def fresh(model: Model) -> dict[str, Finding]:
    """Every experiment on three seeds, with nothing kept; it tells of every seed and leaves the model as it was."""
    before, made = fingerprint(model.pipeline), {}
    for name in NAMES:
        told: list[tuple[str, int, int]] = []
        made[name] = run(model, name, progress=lambda *news, told=told: told.append(news))
        seeds = [news for news in told if news[0] == "seeds"]
        assert seeds[-3:] == [("seeds", 1, 3), ("seeds", 2, 3), ("seeds", 3, 3)], name
        assert fingerprint(model.pipeline) == before, name
    return made


@pytest.fixture(autouse=True)
def _drawn_once(fresh: dict[str, Finding], undrawn: None) -> None:
    """The figures of `fresh` are drawn, others are not."""


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The seeds of every finished generation."""
    made: list[tuple[int, ...]] = []
    own = LabelPipeline.__call__

    @wraps(own)
    def call(self: LabelPipeline, *args: Any, **kwargs: Any) -> Any:
        result = own(self, *args, **kwargs)
        made.append(tuple(one.initial_seed() for one in kwargs["generator"]))
        return result

    monkeypatch.setattr(LabelPipeline, "__call__", call)
    return made


@pytest.fixture
def entries(monkeypatch: pytest.MonkeyPatch) -> Entries:
    """What was computed for every seed, by the name under which it is kept."""
    found: Entries = {}
    own = Setting.each

    def each(self: Setting, name: str, work: Callable[[Request], Any], **about: Any) -> list[Arrays]:
        found[name] = own(self, name, work, **about)
        return found[name]

    monkeypatch.setattr(Setting, "each", each)
    return found


def counted(seeds: list[tuple[int, ...]]) -> set[int]:
    return {seed for several in seeds for seed in several}


@pytest.mark.parametrize("name", NAMES)
def test_a_run_gives_a_figure_a_table_and_a_sentence(fresh: dict[str, Finding], name: str) -> None:
    found = fresh[name]
    assert found.name == name
    assert found.source
    assert found.verdict == "inconclusive"  # of three seeds
    pixels = np.asarray(found.figure.convert("L"))
    assert min(pixels.shape) > 200
    assert pixels.std() > 5
    assert len(found.rows) > 1
    assert all(row.keys() == found.rows[0].keys() for row in found.rows)
    json.dumps(plain_rows(found.rows), allow_nan=False)
    assert re.search(r"-?\d\.\d{3} \[-?\d\.\d{3}, -?\d\.\d{3}\] \(n=3\)", found.sentence), found.sentence
    assert "nan" not in found.sentence
    expected = {"model": "LabelPipeline", "condition": "0011", "seeds": "5 to 7", "steps": request(name).steps}
    assert found.about.items() >= (expected | {"scheduler": "ddim", "guidance": 2.0}).items()


@pytest.mark.parametrize("name", NAMES)
def test_every_experiment_takes_a_sampler_and_goes_on_where_it_was(
    model: Model, drawn: list[tuple[int, ...]], tmp_path: Path, name: str
) -> None:
    """DDPM with as many steps as asked for; of three seeds, two were computed before a stop."""
    asked, cache = request(name).with_(scheduler="ddpm"), Cache(tmp_path)
    found = run(model, name, 2, request=asked, cache=cache)
    assert found.about.items() >= {"scheduler": "ddpm", "steps": asked.steps}.items()
    drawn.clear()
    assert run(model, name, 2, request=asked, cache=cache).rows == found.rows
    assert drawn == []
    run(model, name, 3, request=asked, cache=cache)
    later = {FIRST + 2} if name != "artifact" else {FIRST, FIRST + 1, FIRST + 2}  # whose mean image has changed
    assert counted(drawn) == later


def test_seeds_count_from_the_first_and_differ_in_nothing_else(model: Model) -> None:
    given = prepared(model, "switch", 3)
    assert [one.seed for one in given.requests] == [5, 6, 7]
    assert {one.with_(seed=0) for one in given.requests} == {model.complete(request("switch"))}


def test_divergence_is_that_of_two_profiles(model: Model, entries: Entries) -> None:
    found = run(model, "divergence", 2)
    for seed, entry in zip((5, 6), entries["divergence"], strict=True):
        asked = request("divergence").with_(seed=seed)
        one, two = (
            sfumato.explain(model, asked.with_(label=label), "profile", objects=("samples", "attention"), every=1)
            for label in ("0011", OTHER)
        )
        expected = diverge(one, two).steps
        np.testing.assert_allclose(entry["ssim"], expected["normalised_ssim"].values, atol=1e-4)
        np.testing.assert_allclose(entry["attention"], expected["attention"].values[:-1], rtol=1e-3)
        assert entry["ssim"][0] == 1
        assert entry["ssim"][-1] < 0.95
    assert found.about["other"] == OTHER


def test_switch_holds_what_the_method_finds(model: Model, entries: Entries) -> None:
    found = run(model, "switch", 2)
    for seed, entry in zip((5, 6), entries["switch"], strict=True):
        data = sfumato.explain(model, request("switch").with_(seed=seed), "switch", to=OTHER).tree["switch"]
        np.testing.assert_array_equal(entry["timestep"], [749, 499])
        for which in ("first", "second"):
            np.testing.assert_allclose(entry[f"ssim_to_{which}"], data[f"normalised_ssim_to_{which}"].values)
    assert [row["timestep of the switch"] for row in found.rows] == [749, 499]
    seconds = np.stack([entry["ssim_to_second"] for entry in entries["switch"]])
    assert found.rows[-1]["normalised ssim to the second"] == bootstrap(seconds[:, -1])


def test_every_layer_of_the_ablation_has_its_own_number(model: Model, entries: Entries) -> None:
    found = run(model, "ablation", 1)
    outputs = ["downs.0.3", "downs.1.3", "mid_block2.res_conv", "ups.0.3"]
    attention = ["downs.0.2.fn", "downs.1.2.fn", "mid_attn.fn", "ups.0.2.fn"]
    assert [row["layer"] for row in found.rows] == [*outputs, *attention]
    assert [row["kind"] for row in found.rows] == ["last of its block"] * 4 + ["attention"] * 4
    (entry,) = entries["ablation"]
    assert len({round(float(value), 6) for value in entry["ssim"]}) > 5
    for place, row in enumerate(found.rows):
        asked = request("ablation").with_(seed=FIRST)
        alone = sfumato.explain(model, asked, "ablation", sweep=str(row["layer"]), mask=PATCH).tree["sweep"]
        np.testing.assert_allclose(entry["ssim"][place], alone["normalised_ssim"].values[0], atol=1e-3)
        assert row["most frequent channel"] == int(alone["channel_number"].values[0])


def test_the_effective_area_is_what_the_method_found(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pixel that draws from itself alone covers itself; one that draws from the left half covers the left half."""
    inside = np.zeros((4, 4), bool)
    inside[1, 1] = inside[2, 3] = True
    itself, half = np.zeros((2, 4, 4)), np.zeros((2, 4, 4))
    itself[0, 1, 1], itself[1, 2, 3] = 3, -5
    half[:, :, :2] = -1
    volumes = np.stack([itself, half])
    made = {
        "volume": (("step", "pixel", "y", "x"), volumes),
        "effective_area": ("step", effective_area(volumes).mean(1)),
        "mask": (("y", "x"), inside),
        "region": (("step", "y", "x"), np.zeros((2, 4, 4))),
        "timestep": ("step", [950.0, 100.0]),
    }

    class Made:
        image = Image.new("RGB", (SIDE, SIDE))

        def __init__(self) -> None:
            import xarray as xr

            self.tree = xr.DataTree.from_dict({"gradient_volume": xr.Dataset(made)})

    monkeypatch.setattr("sfumato.experiments.localisation.explain", lambda *given, **options: Made())
    found = run(model, "localisation", 2)
    assert [row["timestep"] for row in found.rows] == [950, 100]
    assert [row["effective area"].mean for row in found.rows] == pytest.approx([0.0625, 0.5])
    # of the left half's 8 pixels, one lies in the mask
    assert [row["from outside the mask"].mean for row in found.rows] == [0, 0.875]
    assert re.search(r"effective area from which a pixel draws grows by 0\.43[78] \[.*\] \(n=2\)", found.sentence)


def test_the_artifacts_channel_is_ablated_as_the_method_does_it(model: Model, entries: Entries) -> None:
    run(model, "artifact")
    images = [entry["image"].astype(float) for entry in entries["images"]]
    for number, entry in enumerate(entries["artifact"]):
        asked = request("artifact").with_(seed=FIRST + number)
        np.testing.assert_array_equal(entry["image"], np.asarray(generate(model, asked).images[0]))
        apart = np.abs(images[number] - np.mean(images, axis=0)).sum(-1)
        blocks = apart.reshape(8, 2, 8, 2).sum(axis=(1, 3))
        mask = np.kron(blocks == blocks.max(), np.ones((2, 2), bool))
        assert mask.sum() == 4
        chance = int(np.random.default_rng(asked.seed).integers(16))
        for place, channel in enumerate((int(entry["channel"]), chance)):
            options = {"channels": f"downs.1.3:{channel}", "mask": mask}
            alone = sfumato.explain(model, asked, "ablation", **options).tree["ablation"]
            np.testing.assert_allclose(entry["inside"][place], alone["change_in_mask"].values, atol=1e-3)
            np.testing.assert_allclose(entry["outside"][place], alone["change_outside"].values, atol=5e-5)
        gradients = sfumato.explain(
            model, asked, "gradient_volume", mask=mask, timesteps=200, mode="region", layers="downs.1.3"
        )
        data = gradients.tree["gradient_maps/downs.1.3"]
        assert int(entry["channel"]) == int(data["max_channel_in_mask"].values[0])


@pytest.mark.parametrize("name", NAMES)
def test_a_stopped_run_goes_on_where_it_was(
    model: Model, fresh: dict[str, Finding], drawn: list[tuple[int, ...]], tmp_path: Path, name: str
) -> None:
    finished = 0

    def stop(what: str, done: int, total: int) -> None:
        nonlocal finished
        finished += what == "seeds"
        if finished == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(model, name, cache=Cache(tmp_path), progress=stop)
    assert counted(drawn) == {5}
    drawn.clear()
    resumed = run(model, name, cache=Cache(tmp_path))
    if name == "artifact":  # the images come first, then what was found in them
        assert drawn[:3] == [(6,), (7,), (5,)]
    else:
        assert counted(drawn) == {6, 7}
    assert_same(resumed, fresh[name])
    drawn.clear()
    assert_same(run(model, name, cache=Cache(tmp_path)), fresh[name])
    assert drawn == []


@pytest.mark.parametrize("name", [name for name in NAMES if name != "artifact"])
def test_more_seeds_compute_only_the_new_ones(
    model: Model, fresh: dict[str, Finding], drawn: list[tuple[int, ...]], tmp_path: Path, name: str
) -> None:
    run(model, name, 1, first=6, cache=Cache(tmp_path))
    drawn.clear()
    assert_same(run(model, name, 3, first=5, cache=Cache(tmp_path)), fresh[name])
    assert counted(drawn) == {5, 7}


@pytest.mark.parametrize(("seeds", "first"), [(2, 5), (3, 4), (3, 6)])
def test_artifacts_are_sought_anew_among_other_images(
    model: Model, fresh: dict[str, Finding], drawn: list[tuple[int, ...]], tmp_path: Path, seeds: int, first: int
) -> None:
    """What is unusual depends on the mean of all images, so only the images themselves are kept."""
    run(model, "artifact", seeds, first=first, cache=Cache(tmp_path))
    drawn.clear()
    assert_same(run(model, "artifact", cache=Cache(tmp_path)), fresh["artifact"])
    new = {5, 6, 7} - set(range(first, first + seeds))
    assert drawn[: len(new)] == [(seed,) for seed in sorted(new)]
    assert drawn[len(new) :] == [one for seed in (5, 6, 7) for one in ((seed,), (seed, seed))]


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("localisation", {"mask": PATCH.T}),
        ("ablation", {"mask": PATCH.T}),
        ("divergence", {"other": "1111"}),
        ("switch", {"other": "1111"}),
        ("switch", {"request": request("switch").with_(label="1000")}),
        ("switch", {"request": request("switch").with_(steps=25)}),
        ("switch", {"request": request("switch").with_(scheduler="ddpm")}),
    ],
)
def test_another_question_takes_nothing_from_the_cache(
    model: Model, drawn: list[tuple[int, ...]], tmp_path: Path, name: str, changes: dict[str, Any]
) -> None:
    run(model, name, 1, cache=Cache(tmp_path))
    drawn.clear()
    again = run(model, name, 1, cache=Cache(tmp_path), **changes)
    assert counted(drawn) == {5}
    assert_same(again, run(model, name, 1, **changes))


@pytest.mark.parametrize(("seed", "kind"), [(1, "v_prediction"), (0, "epsilon")])
def test_another_model_takes_nothing_from_the_cache(
    model: Model, drawn: list[tuple[int, ...]], tmp_path: Path, seed: int, kind: str
) -> None:
    """Neither one with other weights, nor one with the same weights and another scheduler."""
    run(model, "switch", 1, cache=Cache(tmp_path))
    other = sfumato.wrap(tiny_labels(seed, prediction_type=kind))
    drawn.clear()
    again = run(other, "switch", 1, cache=Cache(tmp_path))
    assert counted(drawn) == {5}
    assert_same(again, run(other, "switch", 1))


def test_an_unknown_experiment_is_refused_with_a_list_of_all() -> None:
    message = "there is no experiment 'emergance'; choose from: localisation, ablation, artifact, "
    with pytest.raises(OptionError, match=re.escape(f"{message}divergence, switch")):
        experiment("emergance")


@pytest.mark.parametrize("seeds", [0, -3, True, False, 2.5, "3", None])
def test_a_number_of_seeds_that_makes_no_sense(model: Model, seeds: Any) -> None:
    with pytest.raises(OptionError, match=re.escape(f"seeds is {seeds!r}; expected a whole number from 1 to 100000")):
        setting(model, seeds, progress=silent)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.ones((4, 5), bool), "the mask is 4 x 5 pixels (height x width), the image 16 x 16"),
        (np.zeros((SIDE, SIDE), bool), "marks no pixel"),
        (np.ones((SIDE, SIDE), bool), "marks every pixel"),
        ("eyes", "the mask 'eyes' cannot be read: No such file"),
    ],
)
def test_a_wrong_mask_is_refused(model: Model, mask: Any, message: str) -> None:
    with pytest.raises(OptionError, match=re.escape(message)):
        setting(model, 2, mask=mask, progress=silent)


@pytest.mark.parametrize("name", ["divergence", "switch"])
@pytest.mark.parametrize(
    ("other", "error", "message"),
    [("01", ModelError, "expected 4 bits"), ("0011", OptionError, "is '0011', as in the request; give another")],
)
def test_another_label_that_is_none_is_refused(
    model: Model, drawn: list[tuple[int, ...]], name: str, other: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run(model, name, 2, other=other)
    assert drawn == []


@pytest.mark.parametrize("label", ["0110", "0111", None])
def test_the_usual_other_label_is_another_one(model: Model, label: str | None) -> None:
    given = setting(model, 1, request=Request(label=label, steps=2), progress=silent)
    assert given.other in {"0110", "0111"} - {label}


def test_the_usual_other_prompt_is_another_one(tiny_pipeline: StableDiffusionPipeline) -> None:
    words = sfumato.wrap(tiny_pipeline)
    usual = setting(words, 1, progress=silent)
    assert usual.requests[0].prompt
    assert usual.other != usual.requests[0].prompt
    turned = setting(words, 1, request=Request(usual.other), progress=silent)
    assert turned.other != turned.requests[0].prompt


def test_the_usual_mask_is_the_middle(model: Model) -> None:
    found = setting(model, 1, progress=silent).mask
    expected = np.zeros((SIDE, SIDE), bool)
    expected[6:10, 6:10] = True
    np.testing.assert_array_equal(found, expected)


def test_the_usual_mask_is_the_eyes_where_the_model_names_them(tmp_path: Path) -> None:
    tiny_labels().save_pretrained(tmp_path)
    (tmp_path / "sfumato.json").write_text(json.dumps({"regions": ["background", "eyes"]}))
    Image.fromarray(square().astype(np.uint8)).save(tmp_path / "regions.png")
    loaded = sfumato.load(tmp_path, device="cpu")
    np.testing.assert_array_equal(setting(loaded, 1, progress=silent).mask, square())
    np.testing.assert_array_equal(setting(loaded, 1, mask="background", progress=silent).mask, ~square())


def test_one_image_has_no_artifact(model: Model, drawn: list[tuple[int, ...]]) -> None:
    with pytest.raises(OptionError, match="seeds is 1; .* take 2 or more"):
        run(model, "artifact", 1)
    assert drawn == []


def unconditional(name: str, pipeline: Any) -> Finding:
    given = setting(sfumato.wrap(pipeline), 2, request=Request(steps=20), progress=silent, cache=Cache(None))
    return experiment(name)(given)


@pytest.mark.parametrize("name", ["localisation", "ablation"])
def test_a_model_that_is_told_nothing_can_be_followed(name: str) -> None:
    found = unconditional(name, tiny_unconditional())
    assert found.about["condition"] == "none"
    assert "nan" not in found.sentence


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("divergence", "DDPMPipeline has no prompt or label that could be switched"),
        ("switch", "switch needs words or label, which DDPMPipeline"),
    ],
)
def test_a_model_that_is_told_nothing_cannot_be_switched(name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        unconditional(name, tiny_unconditional())


def test_a_model_without_the_artifacts_layer_is_refused() -> None:
    with pytest.raises(OptionError, match=re.escape("DDPMPipeline has no second contracting block")):
        unconditional("artifact", tiny_unconditional())


def test_a_model_without_attention_has_nothing_to_compare() -> None:
    unet = UNet2DModel(
        sample_size=8,
        block_out_channels=(8,),
        norm_num_groups=4,
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        add_attention=False,
    )
    with pytest.raises(OptionError, match="DDPMPipeline has no attention over the image to compare with"):
        unconditional("ablation", DDPMPipeline(unet.eval(), DDPMScheduler()))


@pytest.mark.parametrize("name", NAMES)
def test_prompts_are_followed_as_labels_are(tiny_pipeline: StableDiffusionPipeline, name: str) -> None:
    words = sfumato.wrap(tiny_pipeline)
    asked = Request("a red cat", steps=4, height=16, width=24)
    seeds = 2 if name == "artifact" else 1
    given = setting(words, seeds, request=asked, other="a blue dog", progress=silent, cache=Cache(None))
    found = experiment(name)(given)
    assert found.about["condition"] == "a red cat"
    assert f"(n={seeds})" in found.sentence
    assert "nan" not in found.sentence
    if name == "divergence":
        times = {0.0, *schedule_of(words, given.requests[0])}
        assert {row["timestep"] for row in found.rows} == times
