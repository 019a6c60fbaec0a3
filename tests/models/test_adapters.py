"""IP-Adapters: one or several, on every task, from their files; which call each one reads by; what does not fit."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DiffusionPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline,
)
from safetensors.torch import save_file

import sfumato
from sfumato.errors import ModelError, RequestError
from sfumato.generation.generate import generate
from sfumato.models.adapter_files import Adapter
from sfumato.models.identity import identity
from sfumato.models.latent import LatentModel
from sfumato.request import Request
from tests.adapters import adapter_weights, processor, vision
from tests.families.adapters import ADAPTED, STARTED, adapted_xl, control_net, random_weights, stable_diffusion_parts
from tests.families.family import FIELDS
from tests.families.parts import SIZE, mask, picture
from tests.pipelines import stable_diffusion

# diffusers and transformers turn tensors into arrays in a way that NumPy 2 is going to drop
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
PLUS_TOKENS, BASE_TOKENS = 16, 4
UNSIZED = {name: value for name, value in STARTED.items() if name not in SIZE}


@random_weights
def with_two(kind: type[DiffusionPipeline] = StableDiffusionPipeline, **more: Any) -> DiffusionPipeline:
    """An adapter of the base kind, then one of the Plus kind; they differ in their number of tokens."""
    parts = stable_diffusion_parts() | {"image_encoder": vision(), "feature_extractor": processor()}
    pipeline: Any = kind(**parts, **{name: make(parts["unet"]) for name, make in more.items()})
    weights = [_by_part(adapter_weights(pipeline.unet, plus=plus)) for plus in (False, True)]
    pipeline.load_ip_adapter(weights, subfolder=["", ""], weight_name=["", ""])
    pipeline.set_ip_adapter_scale([0.6, 0.4])
    return pipeline  # type: ignore[no-any-return]


def _by_part(tensors: dict[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    found: dict[str, dict[str, torch.Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    for name, tensor in tensors.items():
        part, _, own = name.partition(".")
        found[part][own] = tensor
    return found


TASKS: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "image to image": (lambda: with_two(StableDiffusionImg2ImgPipeline), UNSIZED),
    "inpainting": (lambda: with_two(StableDiffusionInpaintPipeline), STARTED | {"mask_image": mask()}),
    "a control image": (
        lambda: with_two(_control(), controlnet=control_net),
        ADAPTED | {"image": picture(seed=2)},
    ),
    "image to image, XL": (lambda: adapted_xl(StableDiffusionXLImg2ImgPipeline), UNSIZED),
}


def _control() -> type[DiffusionPipeline]:
    from diffusers import StableDiffusionControlNetPipeline

    return StableDiffusionControlNetPipeline  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", TASKS)
def test_adapters_work_on_every_task_as_in_the_pipelines_own_call(name: str) -> None:
    build, arguments = TASKS[name]
    pipeline = build()
    adapters = len(pipeline.unet.encoder_hid_proj.image_projection_layers)
    pictures = [picture(seed=1), picture(seed=3)][:adapters]
    given = arguments | {"ip_adapter_image": pictures}
    theirs = pipeline(**given, num_inference_steps=2, generator=torch.Generator().manual_seed(0)).images[0]
    model = sfumato.wrap(pipeline)
    fields = {FIELDS[key]: value for key, value in given.items()}
    request = Request(**fields | {"reference": pictures[0], "more_references": pictures[1:] or None, "steps": 2})
    found = sfumato.explain(model, request, "i2am", adapter=adapters)
    np.testing.assert_array_equal(found.image, np.asarray(theirs))
    data = found.tree["i2am"].to_dataset()
    assert data["backward"].shape == (1, PLUS_TOKENS if adapters == 2 else BASE_TOKENS)
    np.testing.assert_allclose(data["backward"].sum(), 1, atol=1e-5)
    assert ("iou_whole_image" in data.attrs) == (name == "inpainting")
    np.testing.assert_array_equal(found.tree["reference"]["pixels"], np.asarray(pictures[-1]))
    assert sfumato.explain(model, request, "daam").words.sizes["word"] > 3


@cache
def two() -> LatentModel:
    model = sfumato.wrap(with_two())
    assert isinstance(model, LatentModel)
    return model


def request(**more: Any) -> Request:
    return Request(**{"prompt": "a red cat", "steps": 1, "reference": picture(seed=1), **SIZE} | more)


def test_each_adapter_reads_its_own_picture() -> None:
    one, other = picture(seed=1), picture(seed=3)
    pair = request(more_references=[other])
    images = [np.asarray(generate(two(), r).images[0]) for r in (pair, request(reference=other, more_references=[one]))]
    assert (images[0] != images[1]).any()
    same = [np.asarray(generate(two(), r).images[0]) for r in (request(), request(more_references=[one]))]
    np.testing.assert_array_equal(*same)  # one picture is for all
    for adapter, tokens in ((1, BASE_TOKENS), (2, PLUS_TOKENS)):
        found = sfumato.explain(two(), pair, "i2am", adapter=adapter)
        assert found.tree["i2am"].sizes["rx"] == tokens
        np.testing.assert_array_equal(found.tree["reference"]["pixels"], np.asarray((one, other)[adapter - 1]))


def test_an_adapter_that_is_off_in_a_module_is_not_called_there() -> None:
    pipeline = with_two()
    pipeline.set_ip_adapter_scale([{"up": 1.0}, 0.4])  # the first one acts in the upper blocks alone
    model = sfumato.wrap(pipeline)
    first, second = (model.reference_tokens(number) for number in (1, 2))
    assert {site.place for site in first.sites} == {"up"}
    assert set(first.orders) == {1}
    assert {site.place: order for site, order in zip(second.sites, second.orders, strict=True)} == {
        "down": 1, "mid": 1, "up": 2,
    }  # fmt: skip
    found = sfumato.explain(model, request(), "i2am", adapter=2)
    assert found.tree["i2am"].sizes["rx"] == PLUS_TOKENS
    assert found.tree["i2am"].sizes["layer"] == len(second.sites)
    pipeline.set_ip_adapter_scale([0.6, 0.0])
    with pytest.raises(ModelError, match="scale of IP-Adapter 2 is 0 in every module"):
        sfumato.explain(model, request(), "i2am", adapter=2)


def test_scales_are_part_of_what_images_depend_on() -> None:
    before = identity(two())
    two().pipeline.set_ip_adapter_scale([0.6, 0.5])
    changed = identity(two())
    two().pipeline.set_ip_adapter_scale([0.6, 0.4])
    assert before != changed
    assert identity(two()) == before


def test_references_and_adapters_must_agree() -> None:
    three = request(more_references=[picture(seed=3)] * 2)
    with pytest.raises(RequestError, match="3 references were given; this model reads one for each of its 2 IP-Adapt"):
        two().complete(three)
    with pytest.raises(ModelError, match="adapter is 3; the number of IP-Adapters that are loaded is 2"):
        sfumato.explain(two(), request(), "i2am", adapter=3)
    with pytest.raises(ModelError, match="run each reference by itself"):
        generate(two(), [request(), request(more_references=[picture(seed=3)])])
    with pytest.raises(ModelError, match="takes no reference"):
        generate(sfumato.wrap(stable_diffusion()), request(more_references=[picture(seed=3)]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, two adapters and their image encoder, as they lie on disk."""
    place = tmp_path_factory.mktemp("adapters")
    pipeline = stable_diffusion()
    pipeline.save_pretrained(place / "model")
    for name, plus in (("base", False), ("plus", True)):
        (place / name).mkdir()
        save_file(adapter_weights(pipeline.unet, plus=plus), place / name / f"{name}.safetensors")
    vision().save_pretrained(place / "base" / "image_encoder")
    vision(projection_dim=24, hidden_size=24, num_attention_heads=4).save_pretrained(place / "narrow")
    save_file({"weight": torch.zeros(1)}, place / "other.safetensors")
    (place / "weights.bin").write_bytes(b"pickle")
    (place / "broken.safetensors").write_bytes(b"broken")
    return place


def test_adapters_are_loaded_from_their_files(folder: Path) -> None:
    base, plus = folder / "base", folder / "plus" / "plus.safetensors"
    model = sfumato.load(folder / "model", adapters=[base, Adapter(str(plus), scale=0.4)])  # a folder, and a file
    assert isinstance(model, LatentModel)
    assert model.task.adapters == 2
    assert next(iter(_processors(model))).scale == [1.0, 0.4]
    assert not any(parameter.requires_grad for parameter in model.denoiser.parameters())
    by_hand = stable_diffusion()
    pipeline = StableDiffusionPipeline(
        **{**by_hand.components, "image_encoder": vision(), "feature_extractor": processor()},
        requires_safety_checker=False,
    )
    weights = [_by_part(adapter_weights(pipeline.unet, plus=one)) for one in (False, True)]
    pipeline.load_ip_adapter(weights, subfolder=["", ""], weight_name=["", ""])
    pipeline.set_ip_adapter_scale([1.0, 0.4])
    small = request(height=32, width=32)
    one, other = (generate(m, small).images[0] for m in (model, sfumato.wrap(pipeline)))
    np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
    painting = sfumato.load(folder / "model", task="inpainting", adapters=[base])
    assert {"image", "mask", "reference"} <= painting.features


def _processors(model: LatentModel) -> Any:
    return (one for name, one in model.pipeline.unet.attn_processors.items() if name.endswith("attn2.processor"))


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        ("absent.safetensors", "there is no adapter"),
        ("\0", "there is no adapter"),
        ("weights.bin", "is no safetensors file; other formats can run code"),
        ("broken.safetensors", "is damaged or not safetensors"),
        ("other.safetensors", "is no IP-Adapter: it lacks tensors named image_proj"),
        ("model", "holds no safetensors file; name the file of one adapter"),
        ("plus", "there is no image encoder in .*plus.*encoder=FOLDER"),
        ("base/base.safetensors,encoder=narrow", "trained with an image encoder of projection_dim 32.* has 24"),
        ("plus,encoder=narrow", "trained with an image encoder of hidden_size 32.* has 24"),
        ("base,scale=nan", "the scale of the adapter .* is nan"),
    ],
)
def test_an_adapter_that_cannot_be_loaded_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, adapter: str, message: str
) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(ModelError, match=message):
        sfumato.load(folder / "model", adapters=[Adapter.parse(adapter)])


def test_an_adapter_of_another_model_is_refused(folder: Path, tmp_path: Path) -> None:
    tensors = adapter_weights(stable_diffusion().unet)
    first = next(name for name in tensors if name.startswith("ip_adapter."))
    save_file({name: tensor for name, tensor in tensors.items() if name != first}, tmp_path / "short.safetensors")
    adapter = Adapter(str(tmp_path / "short.safetensors"), encoder=str(folder / "base" / "image_encoder"))
    with pytest.raises(ModelError, match=r"short.safetensors cannot be loaded into StableDiffusionPipeline"):
        sfumato.load(folder / "model", adapters=[adapter])
    with pytest.raises(ModelError, match="takes no IP-Adapter; load a Stable Diffusion"):
        sfumato.load("studio/faces", adapters=[folder / "base"])
    named = [Adapter(str(folder / "base"), encoder=name) for name in ("a", "b")]
    with pytest.raises(ModelError, match="the adapters name the image encoders a and b"):
        sfumato.load(folder / "model", adapters=named)


def test_an_adapter_is_written_as_its_file_and_what_it_needs() -> None:
    assert Adapter.parse("a/b.safetensors") == Adapter("a/b.safetensors")
    assert Adapter.parse("a,b.safetensors,scale=0.6") == Adapter("a,b.safetensors", 0.6)
    assert Adapter.parse("a,encoder=e/f,scale=0") == Adapter("a", 0.0, "e/f")
    for text in ("", "a,scale=much", ",scale=1"):
        with pytest.raises(ModelError, match=r"expected FILE|is no number"):
            Adapter.parse(text)


def test_further_references_are_part_of_a_request() -> None:
    one, more = request(), request(more_references=[picture(seed=3)])
    assert one.key != more.key != request(more_references=[picture(seed=4)]).key
    again = Request.from_dict(more.to_dict())
    assert again == more
    assert [item.sha256 for item in again.references] == [more.references[0].sha256, more.references[1].sha256]
    for given in ([], picture(), "photo.png", [picture()] * 16):
        with pytest.raises(RequestError, match="more_references"):
            request(more_references=given)
    with pytest.raises(RequestError, match="without a reference"):
        request(reference=None, more_references=[picture()])
