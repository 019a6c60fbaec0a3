from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sfumato.errors import OptionError
from sfumato.plots import overlay
from sfumato.plots.overlays import colours, dimmed, display_size, stretched
from tests.results import synthetic

GREY = Image.new("RGB", (128, 128), (200, 40, 90))


def corner_map() -> np.ndarray:
    """Strong in the upper left corner only."""
    heat = np.zeros((16, 16))
    heat[:4, :4] = 5.0
    return heat


def test_only_the_strong_places_have_colour() -> None:
    picture = np.asarray(overlay(GREY, corner_map())).astype(int)
    spread = picture.max(axis=-1) - picture.min(axis=-1)
    assert spread[20:60, 20:60].min() > 40  # inferno's yellow at the peak
    assert spread[200:, 200:].max() <= 1  # grey elsewhere, though the image is red


def test_the_orientation_is_kept_on_wide_images() -> None:
    heat = np.zeros((8, 24))
    heat[1, 20] = 1.0  # up, right
    picture = np.asarray(overlay(Image.new("RGB", (96, 32)), heat)).astype(int)
    assert picture.shape == (384, 1152, 3)
    y, x = np.unravel_index(picture.sum(axis=-1).argmax(), picture.shape[:2])
    assert (y / 384, x / 1152) == pytest.approx((1.5 / 8, 20.5 / 24), abs=0.03)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((128, 128), (384, 384)),
        ((100, 300), (400, 1200)),
        ((384, 500), (384, 500)),
        ((512, 512), (512, 512)),
        ((1, 9), (384, 3456)),
    ],
)
def test_small_images_are_enlarged_by_a_whole_factor(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert display_size(size) == expected


def test_display_stretches_and_metrics_do_not() -> None:
    heat = np.array([[2.0, 4.0, 6.0]])
    np.testing.assert_allclose(stretched(heat), [[0, 0.5, 1]])
    np.testing.assert_array_equal(overlay(GREY, corner_map()), overlay(GREY, 100 + 3 * corner_map()))
    outlined = overlay(GREY, corner_map(), contour=0.4)
    assert not np.array_equal(outlined, overlay(GREY, 100 + 3 * corner_map(), contour=0.4))


@pytest.mark.parametrize("heat", [np.full((4, 4), np.nan), np.ones((4, 4)), np.zeros((4, 4)), np.full((4, 4), np.inf)])
def test_a_map_without_a_finding_shows_the_dimmed_image(heat: np.ndarray) -> None:
    picture = np.asarray(overlay(GREY, heat))
    expected = np.round(255 * np.broadcast_to(dimmed(GREY, (384, 384)), (384, 384, 3)))
    np.testing.assert_array_equal(picture, expected)


def test_the_contour_runs_along_the_hard_map() -> None:
    white = (np.asarray(overlay(GREY, corner_map(), contour=0.5)) == 255).all(axis=-1)
    assert white.any()
    y, x = np.nonzero(white)
    assert max(y.max(), x.max()) == pytest.approx(384 / 4, abs=4)
    assert not white[:60, :60].any()  # inside it stays open, and the image's own border is no contour


def test_arrays_and_other_modes_are_images_too() -> None:
    scene = synthetic.scene()
    np.testing.assert_array_equal(overlay(scene, corner_map()), overlay(Image.fromarray(scene), corner_map()))
    assert overlay(Image.fromarray(scene).convert("RGBA"), corner_map()).mode == "RGB"


def test_the_colours_rise_in_lightness() -> None:
    table = colours().astype(float)
    lightness = table @ [0.2126, 0.7152, 0.0722]
    assert table.shape == (256, 3)
    assert np.diff(lightness).min() > -1.0
    with pytest.raises(OptionError, match="no colormap 'rainbowish'; try inferno"):
        overlay(GREY, corner_map(), colormap="rainbowish")
