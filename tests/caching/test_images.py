from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

import sfumato
from sfumato.caching.cache import Cache
from sfumato.caching.images import Generator
from sfumato.models.identity import identity
from sfumato.request import Request

SMALL: dict[str, Any] = {"steps": 2, "height": 32, "width": 32}


@pytest.fixture
def pipeline(tiny_sd: Callable[..., StableDiffusionPipeline]) -> StableDiffusionPipeline:
    return tiny_sd()


def test_every_image_is_made_once(pipeline: StableDiffusionPipeline, tmp_path: Path) -> None:
    model = sfumato.wrap(pipeline)
    requests = [Request(prompt, **SMALL) for prompt in ("a red cat", "", "a red cat", "a dog")]
    generator = Generator(model, Cache(tmp_path), batch=2)
    found = generator(requests)
    assert (generator.made, generator.recalled) == (3, 0)
    assert found[0] is found[2]
    assert found[0].pixels.shape == (32, 32, 3)
    again = Generator(model, Cache(tmp_path))
    for one, other in zip(again(requests), found, strict=True):
        np.testing.assert_array_equal(one.pixels, other.pixels)
        np.testing.assert_array_equal(one.latent, other.latent)
    assert (again.made, again.recalled) == (0, 3)


def test_images_are_those_of_a_run_of_their_own(pipeline: StableDiffusionPipeline) -> None:
    model = sfumato.wrap(pipeline)
    requests = [Request(prompt, seed=seed, **SMALL) for seed, prompt in enumerate(("a red cat", "a dog", ""))]
    for request, one in zip(requests, Generator(model, Cache(None))(requests), strict=True):
        alone = sfumato.generation.generate.generate(model, request)
        # kernels of a batch round in another order than those of one image: up to 3e-5 on a CPU with AVX2
        np.testing.assert_allclose(one.latent, alone.latents[0].numpy(), atol=1e-4)


def test_a_batch_that_was_finished_survives_what_comes_after(pipeline: StableDiffusionPipeline, tmp_path: Path) -> None:
    calls: list[int] = []

    def stop(what: str, done: int, total: int) -> None:
        calls.append(done)
        if len(calls) == 4:  # in the second batch
            raise KeyboardInterrupt

    requests = [Request("a red cat", seed=seed, **SMALL) for seed in range(4)]
    with pytest.raises(KeyboardInterrupt):
        Generator(sfumato.wrap(pipeline), Cache(tmp_path), batch=2)(requests, stop)
    resumed = Generator(sfumato.wrap(pipeline), Cache(tmp_path), batch=2)
    resumed(requests)
    assert (resumed.made, resumed.recalled) == (2, 2)


def test_what_an_image_depends_on_is_in_its_key(tiny_sd: Callable[..., StableDiffusionPipeline]) -> None:
    pipeline = tiny_sd()
    model = sfumato.wrap(pipeline)
    first = identity(model)
    assert identity(sfumato.wrap(tiny_sd())) == first
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    assert identity(model) != first
    changed = tiny_sd()
    changed.unet.conv_out.bias.data += 1
    assert identity(sfumato.wrap(changed)) != first


def test_what_an_image_depends_on_beside_weights_is_part_of_its_identity(pipeline: StableDiffusionPipeline) -> None:
    model = sfumato.wrap(pipeline)
    seen = [identity(model)]
    pipeline.enable_freeu(s1=0.9, s2=0.2, b1=1.2, b2=1.4)
    seen.append(identity(model))
    pipeline.disable_freeu()
    assert identity(model) == seen[0]
    pipeline.vae.register_to_config(scaling_factor=0.5)
    seen.append(identity(model))
    pipeline.tokenizer.pad_token = "a"
    seen.append(identity(model))
    assert len({json.dumps(one, sort_keys=True) for one in seen}) == len(seen)


def test_the_folder_of_a_model_is_no_part_of_its_identity(pipeline: StableDiffusionPipeline, tmp_path: Path) -> None:
    for name in ("one", "two"):
        pipeline.save_pretrained(tmp_path / name)
    one, other = (identity(sfumato.load(str(tmp_path / name))) for name in ("one", "two"))
    assert one == other
