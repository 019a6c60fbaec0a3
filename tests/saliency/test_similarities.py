"""The maps are the terms of SSIM: known answers, and agreement with scikit-image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.filters import gaussian
from skimage.metrics import structural_similarity

from sfumato.metrics.structure import normalised_ssim
from sfumato.saliency import similarities
from sfumato.saliency.similarities import C3, SIGMA, WINDOW, Local, blurred, local_similarity, parity, similarity_name

HALF = WINDOW // 2
ALL: list[Local] = ["structure", "local_ssim", "luminance", "contrast", "cosine"]


def noise(seed: int, rows: int = 1, channels: int = 3, height: int = 30, width: int = 34) -> torch.Tensor:
    return torch.randn(rows, channels, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", ALL)
def test_identical_images_have_one_everywhere(name: Local) -> None:
    image = noise(0)
    found = local_similarity(name, image, image.expand(2, -1, -1, -1))
    assert found.shape == (2, 30, 34)
    np.testing.assert_allclose(found.numpy(), 1, atol=1e-5)
    assert float(local_similarity(name, image, noise(1)).mean()) < 0.98


def test_parity_gives_identical_images_nearly_two() -> None:
    image = noise(0)
    variance = blurred(image**2, WINDOW, SIGMA) - blurred(image, WINDOW, SIGMA) ** 2
    found = parity(image, image)[0]
    np.testing.assert_allclose(found, (2 - C3 / (variance + C3)).mean(1)[0], atol=1e-5)
    assert 1.99 < float(found.min()) <= float(found.max()) < 2


def test_each_term_sees_its_own_difference() -> None:
    image = noise(0)
    others = {"brighter": image + 0.5, "stronger": 3 * image, "inverted": -image}
    mean = {
        (term, change): float(local_similarity(term, image, other).mean())
        for term in ("structure", "luminance", "contrast")
        for change, other in others.items()
    }
    assert mean["structure", "brighter"] == pytest.approx(1, abs=1e-4)
    assert mean["structure", "stronger"] == pytest.approx(1, abs=1e-3)
    assert mean["structure", "inverted"] == pytest.approx(-1, abs=5e-3)
    assert mean["contrast", "brighter"] == pytest.approx(1, abs=1e-4)
    assert mean["contrast", "stronger"] == pytest.approx(0.6, abs=1e-3)  # 2 s 3s / (s^2 + 9 s^2)
    assert mean["contrast", "inverted"] == pytest.approx(1, abs=1e-4)
    assert mean["luminance", "brighter"] < 0.9
    assert mean["luminance", "inverted"] < -0.9


@pytest.mark.parametrize("name", ["structure", "local_ssim", "luminance", "contrast"])
def test_a_change_is_seen_within_the_window_only(name: Local) -> None:
    image = noise(0)
    other = image.clone()
    other[:, :, 10, 20] += 1
    change = (local_similarity(name, image, other)[0] - 1).abs()
    inside = torch.zeros_like(change, dtype=torch.bool)
    inside[10 - HALF : 10 + HALF + 1, 20 - HALF : 20 + HALF + 1] = True
    assert float(change[10, 20]) > 1e-3
    assert float(change[~inside].max()) < 1e-5


def test_the_cosine_is_between_the_channels_of_a_place() -> None:
    one = torch.zeros(1, 2, 1, 3)
    one[0, 0] = 2.0
    other = torch.tensor([[[[1.0, 0.0, -3.0]], [[0.0, 5.0, 3.0]]]])
    np.testing.assert_allclose(local_similarity("cosine", one, other)[0, 0], [1, 0, -(0.5**0.5)], atol=1e-6)


def test_ssim_agrees_with_scikit_image(monkeypatch: pytest.MonkeyPatch) -> None:
    def of_this_window(image: Any, **told: Any) -> Any:
        return gaussian(image, **told | {"truncate": HALF / SIGMA})  # there it is cut at 3.5 sigma

    monkeypatch.setattr("skimage.metrics._structural_similarity.gaussian", of_this_window)
    one = torch.rand(1, 3, 40, 46, generator=torch.Generator().manual_seed(0))
    other = (0.7 * one + 0.3 * torch.rand(1, 3, 40, 46, generator=torch.Generator().manual_seed(1))) ** 1.5
    expected = structural_similarity(
        one[0].double().numpy(),
        other[0].double().numpy(),
        channel_axis=0,
        data_range=1.0,
        gaussian_weights=True,
        sigma=SIGMA,
        use_sample_covariance=False,
        full=True,
    )[1].mean(0)
    inner = (slice(HALF, -HALF),) * 2  # edges are repeated here and mirrored there
    found = local_similarity("local_ssim", one, other)[0].numpy()
    assert np.ptp(found[inner]) > 0.1
    np.testing.assert_allclose(found[inner], expected[inner], atol=2e-5)


def test_variances_below_zero_are_clamped() -> None:
    flat = 300 + 1e-3 * noise(0)
    raw = blurred(flat**2, WINDOW, SIGMA) - blurred(flat, WINDOW, SIGMA) ** 2
    assert float(raw.min()) < 0  # by rounding: what the clamp is for
    moments = similarities._moments(flat, flat.expand(2, -1, -1, -1))
    assert float(moments.variance.min()) == float(moments.other_variance.min()) == 0
    for name in ALL:
        assert torch.isfinite(local_similarity(name, flat, flat + noise(1))).all(), name


def test_half_precision_is_compared_in_single_precision() -> None:
    image = noise(0).half()
    found = local_similarity("local_ssim", image, noise(1).half())
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, local_similarity("local_ssim", image.float(), noise(1).half().float()), atol=1e-6)


def test_a_blur_is_a_gaussian_mean_with_repeated_edges() -> None:
    image = noise(0, rows=2)
    found = blurred(image, 11, 5.0).numpy()
    expected = gaussian_filter(image.double().numpy(), 5.0, axes=(2, 3), mode="nearest", radius=5)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(blurred(torch.full((1, 2, 5, 6), 3.5), 11, 5.0), 3.5, rtol=1e-6)


def test_the_old_name_of_local_ssim_is_accepted_with_a_warning() -> None:
    from sfumato.methods.df_rise import DfRiseOptions  # not at load: the order of the registry is that of imports

    with pytest.warns(DeprecationWarning, match="'ssim' is called 'local_ssim' here"):
        assert DfRiseOptions(similarity="ssim").similarity == "local_ssim"
    assert similarity_name("features") == "features"


def test_three_kinds_of_ssim_differ_on_one_pair() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 24, 24, 3)).astype(np.uint8)
    pixels[1] = (pixels[0] * 0.5).astype(np.uint8)  # the same picture, darker
    one, other = (torch.from_numpy(picture.transpose(2, 0, 1) / 255).float()[None] for picture in pixels)
    local = float(local_similarity("local_ssim", one, other).mean())
    plain = structural_similarity(pixels[0], pixels[1], channel_axis=-1)
    assert normalised_ssim(one[0].numpy(), other[0].numpy()) > 0.99 > max(local, plain)
