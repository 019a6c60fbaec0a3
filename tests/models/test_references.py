"""Models that read a reference: ours, an IP-Adapter on Stable Diffusion (base and Plus), and Paint-by-Example."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import PaintByExamplePipeline, PNDMScheduler, StableDiffusionPipeline
from safetensors.torch import save_file
from transformers import CLIPVisionConfig

import sfumato
from sfumato.errors import ModelError, RequestError
from sfumato.generation.generate import generate
from sfumato.models.latent import LatentModel
from sfumato.models.reference import PaintByExampleModel, ReferenceModel
from sfumato.plots.reference import reference_sheet
from sfumato.request import Request
from tests.adapters import WIDTH, adapter_weights, processor, vision
from tests.pipelines import fingerprint, stable_diffusion
from tests.references import pictures, reference_request, tiny_references

TEXT = {"prompt": "a photo of a red cat", "seed": 2, "steps": 2, "height": 32, "width": 32, "guidance": 3.0}

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def with_adapter(folder: Path, *, plus: bool = False) -> StableDiffusionPipeline:
    plain = stable_diffusion()
    pipeline = StableDiffusionPipeline(
        **{**plain.components, "feature_extractor": processor(), "image_encoder": vision()},
        requires_safety_checker=False,
    )
    save_file(adapter_weights(pipeline.unet, plus=plus), folder / "adapter.safetensors")
    pipeline.load_ip_adapter(
        str(folder), subfolder="", weight_name="adapter.safetensors", local_files_only=True, image_encoder_folder=None
    )
    pipeline.set_ip_adapter_scale(0.6)
    pipeline.unet.eval()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module", params=["base", "plus"])
def adapted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LatentModel:
    folder = tmp_path_factory.mktemp("adapter")
    model = sfumato.wrap(with_adapter(folder, plus=request.param == "plus"))
    assert isinstance(model, LatentModel)
    return model


def test_an_adapter_is_read_after_the_text(adapted: LatentModel) -> None:
    tokens = adapted.reference_tokens()
    count = tokens.grid[1]
    assert (set(tokens.orders), tokens.grid[0], tokens.patches) == ({1}, 1, False)
    assert count in (4, 16)
    request = Request(**TEXT, reference=pictures()[0])  # type: ignore[arg-type]
    plain = generate(adapted, request)  # transformers leaves hooks of its own in the encoder the first time
    before = fingerprint(adapted.pipeline)
    found = sfumato.explain(adapted, request, "i2am")
    assert fingerprint(adapted.pipeline) == before
    np.testing.assert_array_equal(found.image, np.asarray(plain.images[0]))
    data = found.tree["i2am"].to_dataset()
    assert data["backward"].shape == (1, count)
    np.testing.assert_allclose(data["backward"].sum(), 1, atol=1e-5)
    assert data.attrs["causal"]
    assert not data.attrs["patches"]
    words = sfumato.explain(adapted, request, "daam").words
    assert words.sizes["word"] == 6


def test_the_image_is_that_of_the_pipelines_own_call(adapted: LatentModel) -> None:
    reference = pictures()[0]
    request = Request(**TEXT, reference=reference)  # type: ignore[arg-type]
    ours = generate(adapted, request).images[0]
    from PIL import Image

    theirs = adapted.pipeline(
        TEXT["prompt"], ip_adapter_image=Image.fromarray(reference), num_inference_steps=2, guidance_scale=3.0,
        height=32, width=32, generator=torch.Generator().manual_seed(2),
    ).images[0]  # fmt: skip
    np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))


def test_a_batch_shares_its_reference(adapted: LatentModel) -> None:
    one = Request(**TEXT, reference=pictures()[0])  # type: ignore[arg-type]
    together = generate(adapted, [one, one.with_(seed=9)])
    for number, request in enumerate((one, one.with_(seed=9))):
        alone = generate(adapted, request)
        torch.testing.assert_close(together.latents[number], alone.latents[0], atol=1e-4, rtol=1e-3)
    with pytest.raises(ModelError, match="run each reference by itself"):
        generate(adapted, [one, one.with_(reference=255 - pictures()[0])])


def test_an_adapter_without_a_reference_asks_for_one(adapted: LatentModel) -> None:
    with pytest.raises(RequestError, match="give its picture"):
        generate(adapted, Request(**TEXT))  # type: ignore[arg-type]
    request = Request(**TEXT, reference=pictures()[0])  # type: ignore[arg-type]
    assert reference_sheet(sfumato.explain(adapted, request, "i2am")).width > 500
    with pytest.raises(ModelError, match="no patches of the reference"):
        sfumato.explain(adapted, request, "i2am", patches=(3, 3))


@cache
def paint_by_example() -> PaintByExampleModel:
    from diffusers.pipelines.deprecated.paint_by_example.image_encoder import PaintByExampleImageEncoder

    torch.manual_seed(0)
    parts = stable_diffusion().components
    config = CLIPVisionConfig(
        hidden_size=WIDTH, projection_dim=WIDTH, intermediate_size=37, num_hidden_layers=5, num_attention_heads=4,
        image_size=32, patch_size=4,
    )  # fmt: skip
    unet = type(parts["unet"]).from_config(parts["unet"].config, in_channels=9)
    pipeline = PaintByExamplePipeline(
        unet=unet.eval(), scheduler=PNDMScheduler(skip_prk_steps=True), vae=parts["vae"],
        image_encoder=PaintByExampleImageEncoder(config, proj_size=WIDTH).eval(), safety_checker=None,
        feature_extractor=processor(), requires_safety_checker=False,
    )  # fmt: skip
    model = sfumato.wrap(pipeline)
    assert isinstance(model, PaintByExampleModel)
    return model


def test_a_single_token_has_forward_maps_with_a_badge_and_no_way_back() -> None:
    model = paint_by_example()
    request = reference_request(guidance=1.0)
    whole = sfumato.explain(model, request, "i2am")
    found = whole.tree["i2am"].to_dataset()
    assert found.attrs["causal"] is False
    for node in whole.tree["pairs"].children.values():
        np.testing.assert_array_equal(node.to_dataset()["rows"], 1)
    assert not [name for name in found.data_vars if str(name).startswith("backward")]
    assert found["forward"].shape == (32, 32)
    for options in ({"at": (20, 24)}, {"causal": True}, {"patches": (3, 3)}, {"reference_mask": "m.png"}):
        with pytest.raises(ModelError, match="one token: its attention is 1 everywhere"):
            sfumato.explain(model, request, "i2am", **options)


@pytest.mark.parametrize("library", ["diffusers", "paint_by_example"])  # as saved now, and as published
def test_paint_by_example_is_loaded_from_disk_as_it_was(tmp_path: Path, library: str) -> None:
    made = paint_by_example()
    made.pipeline.save_pretrained(tmp_path / "model")
    index = tmp_path / "model" / "model_index.json"
    written = json.loads(index.read_text(encoding="utf-8")) | {"image_encoder": [library, "PaintByExampleImageEncoder"]}
    index.write_text(json.dumps(written), encoding="utf-8")
    model = sfumato.load(tmp_path / "model", task="inpainting")
    assert isinstance(model, PaintByExampleModel)
    one, other = (generate(m, reference_request()).images[0] for m in (model, made))
    np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
    with pytest.raises(ModelError, match="cannot do text-to-image"):
        sfumato.load(tmp_path / "model", task="text-to-image")


def test_ours_is_loaded_from_disk_as_it_was(tmp_path: Path) -> None:
    pipeline = tiny_references()
    pipeline.save_pretrained(tmp_path / "model")
    model = sfumato.load(tmp_path / "model")
    assert isinstance(model, ReferenceModel)
    one, other = (generate(m, reference_request()).images[0] for m in (model, sfumato.wrap(pipeline)))
    np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
    assert model.reference_tokens().grid == (4, 4)
    assert not model.encode([""]).any()
    with pytest.raises(ModelError, match="reads no text"):
        model.encode(["a red cat"])
    with pytest.raises(ModelError, match="takes no text"):
        model.tokens("a red cat")
