from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import sfumato
from sfumato.caching.images import Generation
from sfumato.errors import ModelError, OptionError
from sfumato.similarity import MEASURES, Clip, similarity
from sfumato.studio.scenes import scene_of

CAPTIONS = ("a red circle, teal background", "a large blue square, pink background", "three black stars")


@pytest.fixture(scope="module")
def model() -> sfumato.models.model.Model:
    return sfumato.load("studio/scenes")


def generation(caption: str, seed: int = 0) -> Generation:
    pixels = scene_of(caption, seed).image
    latent = pixels[::8, ::8].astype(np.float32).transpose(2, 0, 1) / 127.5 - 1
    return Generation(f"{caption} {seed}", pixels, latent)


@pytest.mark.parametrize("name", [name for name in MEASURES if name != "features"])
def test_an_image_is_most_like_itself(name: str, model: sfumato.models.model.Model) -> None:
    pictures = [generation(caption) for caption in CAPTIONS]
    measure = similarity(name, model)
    for number, target in enumerate(pictures):
        found = measure.compare(pictures, target)
        assert found.shape == (3,)
        assert found[number] == pytest.approx(1, abs=1e-5)
        assert found.argmax() == number
        assert (np.delete(found, number) < 0.999).all()


def test_clip_sees_what_is_there_wherever_it_lies(model: sfumato.models.model.Model) -> None:
    target = generation(CAPTIONS[0], 1)
    found = similarity("clip", model).compare([generation(CAPTIONS[0], 2), generation(CAPTIONS[1], 3)], target)
    assert found[0] > found[1]


def test_clip_finds_the_caption_of_a_scene() -> None:
    clip = Clip()
    images = clip.images([scene_of(caption, 5).image for caption in CAPTIONS])
    texts = clip.texts(CAPTIONS)
    np.testing.assert_allclose(images.norm(dim=1), 1, atol=1e-5)
    assert (images @ texts.T).argmax(1).tolist() == [0, 1, 2]


def test_clip_takes_images_of_any_size() -> None:
    small, large = (np.full((side, side + 8, 3), 90, np.uint8) for side in (64, 200))
    assert Clip().images([small]).shape == Clip().images([large]).shape


def test_wrong_measures_say_what_to_do(model: sfumato.models.model.Model, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="choose from: clip, vae, latent, ssim, features"):
        similarity("lpips", model)
    with pytest.raises(OptionError, match="uses no other model"):
        similarity("ssim", model, "somewhere")
    with pytest.raises(OptionError, match="needs similarity_model"):
        similarity("features", model)
    with pytest.raises(ModelError, match="the CLIP model"):
        similarity("clip", model, str(tmp_path))
    with pytest.raises(ModelError, match="the image model"):
        similarity("features", model, str(tmp_path))


def test_latents_of_zeros_are_like_nothing(model: sfumato.models.model.Model) -> None:
    empty = Generation("", np.zeros((8, 8, 3), np.uint8), np.zeros((4, 2, 2), np.float32))
    full = Generation("", np.zeros((8, 8, 3), np.uint8), np.ones((4, 2, 2), np.float32))
    assert similarity("latent", model).compare([empty], full).tolist() == [0]


def test_nothing_of_a_wide_image_is_cut_off() -> None:
    clip = Clip()
    wide = np.full((128, 384, 3), 128, np.uint8)
    other = wide.copy()
    other[:, :128] = (220, 30, 40)
    found = clip.images([wide, other])
    assert float(found[0] @ found[1]) < 0.99


@pytest.mark.parametrize("kind", [torch.float32, torch.float16])
def test_both_ways_to_prepare_an_image_agree(kind: torch.dtype) -> None:
    clip = Clip()
    for caption in CAPTIONS:
        scene = scene_of(caption, 5).image
        for picture in (scene, np.concatenate([scene, scene[:, ::-1]], 1)):
            pixels = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].to(kind) / 127.5 - 1
            assert float(clip.directions(pixels)[0] @ clip.images([picture])[0]) > 0.99


def test_scores_of_other_settings_are_not_taken(model: sfumato.models.model.Model) -> None:
    one = similarity("clip", model)
    clip = Clip()
    kept = clip.towers.processor.image_mean
    clip.towers.processor.image_mean = [0.1, 0.2, 0.3]
    try:
        assert similarity("clip", model).weights != one.weights
    finally:
        clip.towers.processor.image_mean = kept
    assert similarity("clip", model).weights == one.weights
