"""Tasks over seeds: what they measure is what the methods find, a stopped run goes on, bad input is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers import DDPMPipeline, DDPMScheduler, StableDiffusionPipeline, UNet2DModel
from numpy.typing import NDArray
from PIL import Image

import sfumato
from sfumato.errors import ModelError, OptionError, RunError
from sfumato.generation.generate import generate
from sfumato.metrics import bootstrap, effective_area
from sfumato.metrics.divergence import diverge
from sfumato.models.model import Model
from sfumato.models.pixel import LabelModel
from sfumato.models.schedulers import schedule_of
from sfumato.request import Request
from sfumato.runs.execute import Status
from sfumato.runs.opened import Run
from sfumato.runs.planning import facts_of
from sfumato.runs.running import run
from sfumato.runs.task import Item, Record, find_task
from sfumato.tasks import localisation
from sfumato.tasks.shared.over_seeds import followed_in
from tests.labels import SIDE, tiny_labels, tiny_unconditional
from tests.pipelines import fingerprint
from tests.tasks.drawn import OVER_SEEDS, draw_nothing

FIRST = 5
OTHER = "1100"
PATCH = np.zeros((SIDE, SIDE), bool)
PATCH[4:6, 8:10] = True
ASKED: dict[str, Any] = {"label": "0011", "steps": 4, "guidance": 2.0}


def written(folder: Path, mask: NDArray[np.bool_], name: str = "mask.png") -> str:
    """A mask as a file."""
    Image.fromarray(mask.astype(np.uint8) * 255).save(folder / name)
    return str(folder / name)


@pytest.fixture(scope="module")
def patch(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(tmp_path_factory.mktemp("masks"), PATCH)


@pytest.fixture(scope="module")
def model() -> Model:
    return sfumato.wrap(tiny_labels(prediction_type="v_prediction"))


def options(name: str, patch: str) -> dict[str, Any]:
    """The options of a task, each with what it takes beside the request."""
    own = {"divergence": {"other": OTHER}, "switch": {"other": OTHER}, "artifact": {}}.get(name, {"mask": patch})
    return {"seed": FIRST} | ASKED | own


def asked(seed: int = FIRST) -> Request:
    return Request(**ASKED, seed=seed)


def ran(model: Any, name: str, out: Path, seeds: int = 3, **given: Any) -> Run:
    return run(name, model, out=out, batch=1, seeds=seeds, **given)


def records(found: Run) -> list[Record]:
    return [record for _, record in found.records()]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def fresh(model: Model, patch: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Every task on three seeds; it leaves the model as it was."""
    before, made = fingerprint(model.pipeline), {}
    with pytest.MonkeyPatch.context() as alone:
        alone.setenv("SFUMATO_CACHE", "off")
        for name in OVER_SEEDS:
            made[name] = ran(model, name, tmp_path_factory.mktemp("runs") / name, **options(name, patch))
            assert fingerprint(model.pipeline) == before, name
    return made


@pytest.fixture(autouse=True)
def _drawn_once(fresh: dict[str, Run], monkeypatch: pytest.MonkeyPatch) -> None:
    """The figures of `fresh` are drawn, others are not."""
    draw_nothing(monkeypatch)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The seeds of every finished generation."""
    made: list[tuple[int, ...]] = []
    own = LabelModel.call

    def call(self: LabelModel, requests: Sequence[Request], on_step: Any) -> Any:
        result = own(self, requests, on_step)
        made.append(tuple(one.seed for one in requests))
        return result

    # not of the pipeline, whose code is part of what its images depend on
    monkeypatch.setattr(LabelModel, "call", call)
    return made


def counted(seeds: list[tuple[int, ...]]) -> set[int]:
    return {seed for several in seeds for seed in several}


@pytest.mark.parametrize("name", OVER_SEEDS)
def test_a_run_gives_a_figure_a_table_and_a_sentence(fresh: dict[str, Run], name: str) -> None:
    found = fresh[name].finding
    assert found["name"] == name
    task = find_task(name)
    assert task.claim is not None
    assert found["source"] == task.claim.text
    assert found["verdict"] == "inconclusive"  # of three seeds
    with Image.open(fresh[name].folder / "figure.png") as figure:
        pixels = np.asarray(figure.convert("L"))
    assert min(pixels.shape) > 200
    assert pixels.std() > 5
    assert len(found["rows"]) > 1
    assert all(row.keys() == found["rows"][0].keys() for row in found["rows"])
    json.dumps(found, allow_nan=False)
    assert re.search(r"-?\d\.\d{3} \[-?\d\.\d{3}, -?\d\.\d{3}\] \(n=3\)", found["sentence"]), found["sentence"]
    assert "nan" not in found["sentence"]
    expected = {"model": "LabelPipeline", "condition": "0011", "seeds": "5 to 7", "steps": 4}
    assert found["about"].items() >= (expected | {"scheduler": "ddim", "guidance": 2.0}).items()


@pytest.mark.parametrize("name", OVER_SEEDS)
def test_a_stopped_run_goes_on_where_it_was(
    model: Model,
    fresh: dict[str, Run],
    drawn: list[tuple[int, ...]],
    patch: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    def stop(status: Status) -> None:
        if status.counts.ok == 1:
            raise KeyboardInterrupt

    if name == "artifact":
        monkeypatch.setattr(find_task(name).parts, "_mean", None)  # as in a new process
    out, given = tmp_path / "run", options(name, patch)
    with pytest.raises(KeyboardInterrupt):
        ran(model, name, out, report=stop, **given)
    # whose unusual part depends on the images of all seeds
    assert counted(drawn) == ({5, 6, 7} if name == "artifact" else {5})
    drawn.clear()
    resumed = ran(model, name, out, **given).finding
    assert counted(drawn) == {6, 7}
    assert resumed == fresh[name].finding
    drawn.clear()
    assert ran(model, name, out, **given).finding == resumed
    assert drawn == []


@pytest.mark.parametrize("name", OVER_SEEDS)
def test_every_task_takes_a_sampler(model: Model, patch: str, tmp_path: Path, name: str) -> None:
    """DDPM with as many steps as asked for."""
    found = ran(model, name, tmp_path / "run", 2, **options(name, patch) | {"scheduler": "ddpm"}).finding
    assert found["about"].items() >= {"scheduler": "ddpm", "steps": 4}.items()


def test_seeds_count_from_the_first_and_differ_in_nothing_else(model: Model) -> None:
    task = find_task("switch")
    items = list(task.parts.plan(facts_of(model), (), task.configure({"seeds": 3, "seed": FIRST} | ASKED)))
    requests = [item.request for item in items if isinstance(item, Item)]
    assert [one.seed for one in requests] == [5, 6, 7]
    assert {one.with_(seed=FIRST) for one in requests} == {asked()}


def test_divergence_is_that_of_two_profiles(model: Model, fresh: dict[str, Run]) -> None:
    for seed, record in zip((5, 6, 7), records(fresh["divergence"]), strict=True):
        one, two = (
            sfumato.explain(model, asked(seed).with_(label=label), "profile", objects=("samples", "attention"), every=1)
            for label in ("0011", OTHER)
        )
        expected = diverge(one, two).steps
        ssim, attention = record.arrays["ssim"], record.arrays["attention"]
        np.testing.assert_allclose(ssim, expected["normalised_ssim"].values, atol=1e-4)
        np.testing.assert_allclose(attention, expected["attention"].values[:-1], rtol=1e-3)
        assert ssim[0] == 1
        assert ssim[-1] < 0.95
    assert fresh["divergence"].finding["about"]["other"] == OTHER


def test_switch_holds_what_the_method_finds(model: Model, fresh: dict[str, Run]) -> None:
    found = records(fresh["switch"])
    for seed, record in zip((5, 6, 7), found, strict=True):
        data = sfumato.explain(model, asked(seed), "switch", to=OTHER).tree["switch"]
        np.testing.assert_array_equal(record.arrays["timestep"], [749, 499])
        for which in ("first", "second"):
            np.testing.assert_allclose(record.arrays[f"ssim_to_{which}"], data[f"normalised_ssim_to_{which}"].values)
    rows = fresh["switch"].finding["rows"]
    assert [row["timestep of the switch"] for row in rows] == [749, 499]
    seconds = bootstrap(np.stack([record.arrays["ssim_to_second"] for record in found])[:, -1])
    assert rows[-1]["normalised ssim to the second"] == seconds.to_dict()


def test_every_layer_of_the_ablation_has_its_own_number(model: Model, patch: str, tmp_path: Path) -> None:
    found = ran(model, "ablation", tmp_path / "run", 1, **options("ablation", patch))
    rows = found.finding["rows"]
    outputs = ["downs.0.3", "downs.1.3", "mid_block2.res_conv", "ups.0.3"]
    attention = ["downs.0.2.fn", "downs.1.2.fn", "mid_attn.fn", "ups.0.2.fn"]
    assert [row["layer"] for row in rows] == [*outputs, *attention]
    assert [row["kind"] for row in rows] == ["last of its block"] * 4 + ["attention"] * 4
    (record,) = records(found)
    assert len({round(float(value), 6) for value in record.arrays["ssim"]}) > 5
    for place, row in enumerate(rows):
        alone = sfumato.explain(model, asked(), "ablation", sweep=str(row["layer"]), mask=PATCH).tree["sweep"]
        np.testing.assert_allclose(record.arrays["ssim"][place], alone["normalised_ssim"].values[0], atol=1e-3)
        assert row["most frequent channel"] == int(alone["channel_number"].values[0])


def test_the_effective_area_is_what_the_method_found(
    model: Model, patch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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

    monkeypatch.setattr(localisation, "explain", lambda *given, **options: Made())
    found = ran(model, "localisation", tmp_path / "run", 2, **options("localisation", patch)).finding
    assert [row["timestep"] for row in found["rows"]] == [950, 100]
    assert [row["effective area"]["value"] for row in found["rows"]] == pytest.approx([0.0625, 0.5])
    # of the left half's 8 pixels, one lies in the mask
    assert [row["from outside the mask"]["value"] for row in found["rows"]] == [0, 0.875]
    assert re.search(r"effective area from which a pixel draws grows by 0\.43[78] \[.*\] \(n=2\)", found["sentence"])


def test_the_artifacts_channel_is_ablated_as_the_method_does_it(model: Model, fresh: dict[str, Run]) -> None:
    found = records(fresh["artifact"])
    images = [np.asarray(generate(model, model.complete(asked(seed))).images[0]) for seed in (5, 6, 7)]
    mean = np.mean([image.astype(float) for image in images], axis=0)
    for number, record in enumerate(found):
        request = asked(FIRST + number)
        np.testing.assert_array_equal(record.arrays["image"], images[number])
        blocks = np.abs(images[number] - mean).sum(-1).reshape(8, 2, 8, 2).sum(axis=(1, 3))
        mask = np.kron(blocks == blocks.max(), np.ones((2, 2), bool))
        assert mask.sum() == 4
        chance = int(np.random.default_rng(request.seed).integers(16))
        for place, channel in enumerate((record.values["channel"], chance)):
            given = {"channels": f"downs.1.3:{channel}", "mask": mask}
            alone = sfumato.explain(model, request, "ablation", **given).tree["ablation"]
            np.testing.assert_allclose(record.arrays["inside"][place], alone["change_in_mask"].values, atol=1e-3)
            np.testing.assert_allclose(record.arrays["outside"][place], alone["change_outside"].values, atol=5e-5)
        gradients = sfumato.explain(
            model, request, "gradient_volume", mask=mask, timesteps=200, mode="region", layers="downs.1.3"
        )
        data = gradients.tree["gradient_maps/downs.1.3"]
        assert record.values["channel"] == int(data["max_channel_in_mask"].values[0])


@pytest.mark.parametrize(("seeds", "first"), [(2, 5), (3, 4), (3, 6)])
def test_artifacts_are_sought_anew_among_other_images(
    model: Model,
    fresh: dict[str, Run],
    drawn: list[tuple[int, ...]],
    patch: str,
    tmp_path: Path,
    seeds: int,
    first: int,
) -> None:
    """What is unusual depends on the mean of all images, so only the images themselves are kept."""
    given = options("artifact", patch)
    ran(model, "artifact", tmp_path / "other", seeds, **given | {"seed": first})
    drawn.clear()
    assert ran(model, "artifact", tmp_path / "run", **given).finding == fresh["artifact"].finding
    images = [seeds for seeds in drawn if len(seeds) == 1]
    new = {5, 6, 7} - set(range(first, first + seeds))
    assert images[: len(new)] == [(seed,) for seed in sorted(new)]
    assert [seeds for seeds in drawn if len(seeds) == 2] == [(5, 5), (6, 6), (7, 7)]


def test_a_mask_of_other_content_is_another_run(model: Model, tmp_path: Path) -> None:
    """Its pixels count and not its name, and they stand in the plan."""
    mask, given = written(tmp_path, PATCH), {"seed": FIRST} | ASKED
    first = ran(model, "ablation", tmp_path / "run", 1, mask=mask, **given)
    written(tmp_path, PATCH.T)
    with pytest.raises(RunError, match="holds a run of other settings"):
        ran(model, "ablation", tmp_path / "run", 1, mask=mask, **given)
    Path(mask).unlink()
    ((item, _),) = first.records()
    np.testing.assert_array_equal(followed_in(model, item), PATCH)


@pytest.mark.parametrize("seeds", [0, -3, True, False, 2.5, "3", None])
def test_a_number_of_seeds_that_makes_no_sense(model: Model, tmp_path: Path, seeds: Any) -> None:
    with pytest.raises(OptionError, match=re.escape(f"seeds is {seeds!r}; expected a whole number from 1 to 100000")):
        ran(model, "switch", tmp_path / "run", seeds)


@pytest.mark.parametrize("name", ["localisation", "ablation"])
@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.ones((8, 9), bool), "is 8 x 9 pixels (height x width), the image 16 x 16"),
        (np.zeros((SIDE, SIDE), bool), "marks no pixel"),
        (np.ones((SIDE, SIDE), bool), "marks every pixel"),
        ("eyes", "the mask 'eyes' cannot be read: No such file"),
    ],
)
def test_a_wrong_mask_is_refused(
    model: Model, drawn: list[tuple[int, ...]], tmp_path: Path, name: str, mask: Any, message: str
) -> None:
    given = mask if isinstance(mask, str) else written(tmp_path, mask)
    with pytest.raises(OptionError, match=re.escape(message)):
        ran(model, name, tmp_path / "run", 2, mask=given)
    assert drawn == []
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["divergence", "switch"])
@pytest.mark.parametrize(
    ("other", "error", "message"),
    [("01", ModelError, "expected 4 bits"), ("0011", OptionError, "is '0011', as in the request; give another")],
)
def test_another_label_that_is_none_is_refused(
    model: Model,
    drawn: list[tuple[int, ...]],
    tmp_path: Path,
    name: str,
    other: str,
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        ran(model, name, tmp_path / "run", 2, **ASKED | {"other": other})
    assert drawn == []
    assert not (tmp_path / "run").exists()


def test_a_switch_needs_three_steps(model: Model, drawn: list[tuple[int, ...]], tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="this run has 2 steps; switching needs 3 or more"):
        ran(model, "switch", tmp_path / "run", **ASKED | {"steps": 2})
    assert drawn == []


def test_one_image_has_no_artifact(model: Model, drawn: list[tuple[int, ...]], tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="seeds is 1; .* take 2 or more"):
        ran(model, "artifact", tmp_path / "run", 1)
    assert drawn == []


@pytest.mark.parametrize("name", ["localisation", "ablation"])
def test_a_model_that_is_told_nothing_can_be_followed(tmp_path: Path, name: str) -> None:
    found = ran(tiny_unconditional(), name, tmp_path / "run", 2, steps=20).finding
    assert found["about"]["condition"] == "none"
    assert "nan" not in found["sentence"]


@pytest.mark.parametrize("name", ["divergence", "switch"])
def test_a_model_that_is_told_nothing_cannot_be_switched(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match=f"{name} needs words or label, which DDPMPipeline"):
        ran(tiny_unconditional(), name, tmp_path / "run", 2, steps=20)


def test_a_model_without_the_artifacts_layer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=re.escape("DDPMPipeline has no second contracting block")):
        ran(tiny_unconditional(), "artifact", tmp_path / "run", 2, steps=20)


def test_a_model_without_attention_has_nothing_to_compare(tmp_path: Path) -> None:
    unet = UNet2DModel(
        sample_size=8,
        block_out_channels=(8,),
        norm_num_groups=4,
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        add_attention=False,
    )
    with pytest.raises(OptionError, match="DDPMPipeline has no attention over the image to compare with"):
        ran(DDPMPipeline(unet.eval(), DDPMScheduler()), "ablation", tmp_path / "run", 2, steps=20)


@pytest.mark.parametrize("name", OVER_SEEDS)
def test_prompts_are_followed_as_labels_are(tiny_pipeline: StableDiffusionPipeline, tmp_path: Path, name: str) -> None:
    words = sfumato.wrap(tiny_pipeline)
    small = np.zeros((64, 64), bool)
    small[20:24, 30:34] = True
    own = options(name, written(tmp_path, small)).keys() & {"other", "mask"}
    given = {"other": "a blue dog", "mask": str(tmp_path / "mask.png")}
    seeds = 2 if name == "artifact" else 1
    asked = {"prompt": "a red cat", "steps": 4} | {one: given[one] for one in own}
    found = ran(words, name, tmp_path / "run", seeds, **asked).finding
    assert found["about"]["condition"] == "a red cat"
    assert f"(n={seeds})" in found["sentence"]
    assert "nan" not in found["sentence"]
    if name == "divergence":
        times = {0.0, *schedule_of(words, words.complete(Request("a red cat", steps=4)))}
        assert {row["timestep"] for row in found["rows"]} == times
