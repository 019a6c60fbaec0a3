"""Every explanation of the process has its sheet, and a sheet names what it lacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray
from PIL import Image

import sfumato
from sfumato.errors import SfumatoError
from sfumato.metrics import effective_area
from sfumato.metrics.divergence import diverge
from sfumato.models.model import Model
from sfumato.plots.divergence import divergence_sheet
from sfumato.plots.interventions import ablation_sheet, sweep_sheet, switch_sheet
from sfumato.plots.process import layers_sheet, process_sheet
from sfumato.plots.sheets import SHEETS, process_sheets
from sfumato.plots.volumes import spread_in_words, volume_sheet
from sfumato.results.explanation import Explanation
from tests.labels import REQUEST, square, tiny_labels
from tests.results import synthetic

LAYERS = ("downs.0.3", "mid_attn.fn", "ups.0.2.fn")


@pytest.fixture(scope="module")
def model() -> Model:
    return sfumato.wrap(tiny_labels(prediction_type="v_prediction"))


@pytest.fixture(scope="module")
def made(model: Model) -> dict[str, Explanation]:
    """An explanation of every kind."""
    mask = square()
    everything = ("samples", "clean", "ssim", "attention", "activations", "gradients")
    wanted: dict[str, tuple[str, dict[str, Any]]] = {
        "profile": ("profile", {"objects": everything, "layers": LAYERS, "mask": mask}),
        "volume": ("gradient_volume", {"mask": mask, "timesteps": (900, 200), "layers": LAYERS}),
        "region": ("gradient_volume", {"mask": mask, "timesteps": (900, 200), "mode": "region"}),
        "ablation": ("ablation", {"channels": "mid_attn:3"}),
        "sweep": ("ablation", {"sweep": LAYERS}),
        "rank": ("ablation", {"rank": "mid_attn.fn.0", "mask": mask}),
        "switch": ("switch", {"to": "1100"}),
    }
    return {name: sfumato.explain(model, REQUEST, method, **options) for name, (method, options) in wanted.items()}


def holds(sheet: Image.Image, picture: Any) -> bool:
    """Whether most of a picture's colours are in a sheet."""
    wanted, there = (np.unique(np.asarray(one).reshape(-1, 3) @ [65536, 256, 1]) for one in (picture, sheet))
    return bool(np.isin(wanted, there).mean() > 0.6)


def filled(sheet: Image.Image) -> NDArray[np.bool_]:
    """Where a sheet is not white."""
    return np.asarray((np.asarray(sheet) < 250).any(-1))


SHEETS_OF: list[tuple[str, str, Callable[[Explanation], Image.Image]]] = [
    ("profile", "profile", process_sheet),
    ("profile", "layers", layers_sheet),
    ("profile", "gradients", SHEETS["gradients"][1]),
    ("volume", "gradient_volume", volume_sheet),
    ("volume", "gradient_maps", SHEETS["gradient_maps"][1]),
    ("ablation", "ablation", ablation_sheet),
    ("sweep", "sweep", sweep_sheet),
    ("switch", "switch", switch_sheet),
]


@pytest.mark.parametrize(("kind", "name", "draw"), SHEETS_OF)
def test_every_sheet_is_a_picture_with_something_on_every_side(
    made: dict[str, Explanation], kind: str, name: str, draw: Callable[[Explanation], Image.Image]
) -> None:
    sheet = draw(made[kind])
    assert sheet.mode == "RGB"
    assert 300 <= sheet.width <= 2400
    assert 250 <= sheet.height <= 1400
    inside = filled(sheet)
    assert 0.05 < inside.mean() < 0.95
    height, width = inside.shape
    for half in (inside[: height // 2], inside[height // 2 :], inside[:, : width // 2], inside[:, width // 2 :]):
        assert half.any()
    assert name in process_sheets(made[kind])


def test_an_explanation_offers_the_sheets_of_its_nodes(made: dict[str, Explanation]) -> None:
    expected = {
        "profile": {"profile", "layers", "gradients"},
        "volume": {"gradient_volume", "gradient_maps"},
        "region": {"gradient_volume"},
        "ablation": {"ablation"},
        "sweep": {"sweep"},
        "rank": {"sweep"},
        "switch": {"switch"},
    }
    assert {kind: set(process_sheets(one)) for kind, one in made.items()} == expected
    assert not process_sheets(synthetic.explanation())


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (process_sheet, "holds no samples, attention or trajectory; make it with method='profile'"),
        (layers_sheet, "this explanation holds no activations"),
        (SHEETS["gradients"][1], "this explanation holds no gradients"),
        (SHEETS["gradient_maps"][1], "this explanation holds no gradient_maps"),
        (volume_sheet, "holds no gradient volume; make it with method='gradient_volume'"),
        (ablation_sheet, "this explanation holds no ablation; its nodes are: image, words, tokens"),
        (sweep_sheet, "this explanation holds no sweep"),
        (switch_sheet, "this explanation holds no switch"),
    ],
)
def test_a_sheet_says_what_is_missing(draw: Callable[[Explanation], Image.Image], message: str) -> None:
    with pytest.raises(SfumatoError, match=message):
        draw(synthetic.explanation())


def test_a_profile_grows_with_its_steps_and_rows(model: Model, made: dict[str, Explanation]) -> None:
    whole = process_sheet(made["profile"])
    samples = process_sheet(sfumato.explain(model, REQUEST, "profile", objects="samples"))
    curve = process_sheet(sfumato.explain(model, REQUEST, "profile", objects="ssim"))
    long = process_sheet(sfumato.explain(model, REQUEST.with_(steps=12), "profile", objects="samples", every=1))
    assert whole.height > curve.height > samples.height
    assert long.width > samples.width
    assert samples.width / samples.height > 3  # one row of seven pictures


def test_a_profile_shows_its_samples(made: dict[str, Explanation]) -> None:
    sheet = process_sheet(made["profile"])
    for place in (0, -1):
        assert holds(sheet, made["profile"].tree["samples"]["picture"].values[place])


def test_layers_are_shown_at_the_step_that_is_asked_for(made: dict[str, Explanation]) -> None:
    late, same, early = (layers_sheet(made["profile"], timestep) for timestep in (200, 166, 999))
    np.testing.assert_array_equal(late, same)
    assert not np.array_equal(late, early)


def test_a_volume_without_its_pixels_has_one_row(made: dict[str, Explanation]) -> None:
    assert volume_sheet(made["region"]).height < volume_sheet(made["volume"]).height


def test_a_volume_says_from_how_much_of_the_image_a_pixel_draws(made: dict[str, Explanation]) -> None:
    first = made["volume"].tree["gradient_volume"].to_dataset().isel(step=0)
    share = 100 * float(effective_area(first["volume"].values).mean())
    assert spread_in_words(first) == f"t = {float(first['timestep']):.0f}: each pixel from {share:.2g}% of the image"
    alone = made["region"].tree["gradient_volume"].to_dataset().isel(step=0)
    assert spread_in_words(alone) == f"t = {float(alone['timestep']):.0f}"


def test_an_ablation_shows_both_images(made: dict[str, Explanation]) -> None:
    sheet = ablation_sheet(made["ablation"])
    assert holds(sheet, made["ablation"].image)
    assert holds(sheet, made["ablation"].tree["ablation"]["picture"].values)


def test_a_long_ranking_is_cut_off(made: dict[str, Explanation], model: Model) -> None:
    whole = sfumato.explain(model, REQUEST.with_(steps=1), "ablation", rank="downs.1.0.net.1")
    assert whole.tree["sweep"].sizes["run"] == 32
    nodes = {node.path: node.to_dataset(inherit=False) for node in whole.tree.subtree}
    nodes["/sweep"] = nodes["/sweep"].isel(run=slice(24))
    cut = Explanation(xr.DataTree.from_dict(nodes), whole.request, {})
    np.testing.assert_array_equal(sweep_sheet(whole), sweep_sheet(cut))
    assert sweep_sheet(whole).height > sweep_sheet(made["sweep"]).height


def test_a_switch_of_several_seeds_shows_the_chosen_one(model: Model) -> None:
    several = sfumato.explain(model, REQUEST.with_(images=2), "switch", to="1100", at=(1, 3))
    first, second = (switch_sheet(several, image) for image in (0, 1))
    assert first.size == second.size
    assert not np.array_equal(first, second)
    assert holds(second, several.images[1])
    assert not holds(first, several.images[1])


def test_two_profiles_side_by_side(made: dict[str, Explanation], model: Model) -> None:
    other = sfumato.explain(model, REQUEST.with_(label="1100", seed=9), "profile", layers=LAYERS)
    sheet = divergence_sheet(made["profile"], other, diverge(made["profile"], other))
    assert 800 <= sheet.width <= 1400
    assert 500 <= sheet.height <= 900
    assert holds(sheet, made["profile"].image)
    assert holds(sheet, other.image)
