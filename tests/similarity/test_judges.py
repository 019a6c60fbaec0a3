"""Which CLIP judges images: the studio's its own pictures alone, a pipeline's own towers, or what is given."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from transformers import CLIPConfig

import sfumato
from sfumato.errors import ModelError, SfumatoWarning
from sfumato.judging.judge import judge
from sfumato.models.model import Model
from sfumato.similarity import Clip, clip_for, similarity
from sfumato.similarity.judges import of_the_studio, own_clip
from tests.families import family
from tests.families.parts import IMAGE_SIDE, IMAGE_WIDTH, picture
from tests.pipelines import stable_diffusion

PLAIN, ADAPTED, ADAPTED_XL = "Stable Diffusion", "Stable Diffusion, IP-Adapter", "Stable Diffusion XL, IP-Adapter"
JUDGED: dict[str, dict[str, Any]] = {
    "shapley": {"cache": False},
    "lime": {"cache": False},
    "lime_image": {"budget": 40, "superpixels": 4},
    "segments": {},
    "word_gradients": {"through": 1},
    "df_rise": {"at": (0,), "masks": 2, "similarity": "perceptual"},
}
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers, numpy 2
PICTURES = [np.asarray(picture(48, 64, seed=seed)) for seed in range(3)]


@cache
def model_of(name: str) -> Model:
    return family(name).wrapped()


def counted(model: Model) -> tuple[list[int], Any]:
    """How often the denoiser is called, and what takes the count away again."""
    calls: list[int] = []
    return calls, model.denoiser.register_forward_hook(lambda *given: calls.append(1))


@pytest.mark.parametrize("method", JUDGED)
def test_a_model_of_the_world_is_not_judged_by_the_studio_clip(method: str) -> None:
    model = model_of(PLAIN)
    calls, hook = counted(model)
    option = "similarity_model" if method in ("shapley", "lime") else "clip_model"
    said = (
        f"nothing can judge the images of .*: the pipeline holds no image tower of a CLIP, and studio/clip has seen "
        f"drawn scenes of coloured shapes and nothing else; give {option}, a folder or hub id of a CLIPModel"
    )
    with pytest.raises(ModelError, match=said):
        sfumato.explain(model, family(PLAIN).request(prompt="red cat"), method, **JUDGED[method])
    hook.remove()
    assert not calls


@pytest.mark.parametrize("method", JUDGED)
def test_the_own_towers_judge_and_the_result_says_so(method: str) -> None:
    model, request = model_of(ADAPTED_XL), family(ADAPTED_XL).request(prompt="red cat", steps=1)
    own = "the pipeline's own image_encoder with text_encoder_2"
    with pytest.warns(SfumatoWarning, match=f"images are judged by {own}"):
        found = sfumato.explain(model, request, method, **JUDGED[method])
    assert found.provenance["notes"] == [f"images are judged by {own}"]
    said = [str(value) for node in found.tree.subtree for value in node.attrs.values()]
    assert any(own in value for value in [*said, str(found.provenance.get("judge"))])


def test_an_image_tower_alone_compares_images_but_reads_no_text() -> None:
    model = model_of(ADAPTED)
    assert clip_for(model, None).source == "the pipeline's own image_encoder"
    with pytest.raises(ModelError, match="the pipeline's own image_encoder has no text tower of the same width"):
        clip_for(model, None, texts=True)
    with pytest.raises(ModelError, match="reads images alone"):
        clip_for(model, None).texts(["a cat"])


def test_own_towers_give_what_the_networks_give() -> None:
    pipeline = model_of(ADAPTED_XL).pipeline
    own = own_clip(pipeline)
    assert own is not None
    pixels = own.pixels(PICTURES)
    assert pixels.shape == (3, 3, IMAGE_SIDE, IMAGE_SIDE)
    with torch.no_grad():
        expected = pipeline.image_encoder(pixel_values=pixels)
        tokens = pipeline.tokenizer_2(["a red cat", "dog"], padding=True, return_tensors="pt")
        texts = pipeline.text_encoder_2(**tokens).text_embeds
    torch.testing.assert_close(own.images(PICTURES), F.normalize(expected.image_embeds, dim=-1))
    torch.testing.assert_close(own.texts(["a red cat", "dog"]), F.normalize(texts, dim=-1))
    given = torch.from_numpy(np.stack(PICTURES)).permute(0, 3, 1, 2) / 127.5 - 1
    torch.testing.assert_close(own.directions(given.float()), own.images(PICTURES), atol=2e-2, rtol=0)
    side = IMAGE_SIDE // 8
    assert own.patches(given.float()).shape == (3, side, side, IMAGE_WIDTH)


def test_a_safety_checker_is_an_image_tower() -> None:
    pipeline = stable_diffusion()
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision |= {"image_size": 32, "patch_size": 16}
    config = CLIPConfig(vision_config=vision, projection_dim=24)
    pipeline.safety_checker = StableDiffusionSafetyChecker(config).eval()
    own = own_clip(pipeline)
    assert own is not None
    assert own.source == "the pipeline's own safety_checker"
    assert own.images(PICTURES).shape == (3, 24)
    assert own.towers.texts is None


def test_half_precision_judges_as_well() -> None:
    pipeline = family(ADAPTED_XL).build()
    whole = own_clip(pipeline).images(PICTURES)  # type: ignore[union-attr]
    half = own_clip(pipeline.to(torch.float16)).images(PICTURES)  # type: ignore[union-attr]
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, whole, atol=1e-2, rtol=0)


def test_what_is_asked_for_judges_any_model_and_the_result_warns() -> None:
    with pytest.warns(SfumatoWarning, match="judged by studio/clip, as chosen, but studio/clip has seen drawn"):
        found = sfumato.explain(
            model_of(PLAIN), family(PLAIN).request(prompt="red cat"), "lime_image", clip_model="studio/clip", budget=40
        )
    assert found.tree["lime_image/parts"].attrs["value"] == "clip score (studio/clip)"
    for name in ("latent", "vae", "ssim"):
        notes = similarity(name, model_of(PLAIN)).notes
        assert [note.startswith(f"images are compared by {name}, as chosen: place by place") for note in notes]
        assert not similarity(name, studio()).notes


def test_a_similarity_without_a_clip_is_said_in_the_result() -> None:
    request = family(PLAIN).request(prompt="cat", steps=1)
    with pytest.warns(SfumatoWarning, match="images are compared by latent, as chosen"):
        found = sfumato.explain(model_of(PLAIN), request, "shapley", similarity="latent", cache=False)
    assert found.tree["shapley/word_importance"].attrs["value"] == "latent similarity to the image of all words"
    assert found.provenance["notes"] == [
        "images are compared by latent, as chosen: place by place, not by what they show"
    ]


@cache
def studio() -> Model:
    return sfumato.load("studio/scenes")


def test_the_studio_is_known_by_its_folder_or_its_words(tmp_path: Path) -> None:
    assert of_the_studio(studio())
    assert of_the_studio(sfumato.load("studio/scenes", task="image-to-image"))
    assert of_the_studio(sfumato.load("studio/faces"))
    assert clip_for(studio(), None, texts=True).source == "studio/clip"
    for words, known in (('["a", "red", "circle"]', True), ('["a", "red", "astronaut"]', False), ("[]", False)):
        stable_diffusion().save_pretrained(tmp_path / words)
        (tmp_path / words / "sfumato.json").write_text(f'{{"words": {words}}}')
        assert of_the_studio(sfumato.load(tmp_path / words)) is known


def test_the_games_go_without_what_has_no_judge() -> None:
    model, request = model_of(PLAIN), family(PLAIN).request(prompt="red cat")
    found = sfumato.explain(model, request, "df_cam", at=(0,))
    verdict = judge(model, [found], points=2, games=("deletion",))
    assert {one.curve.measure for one in verdict.played} == {"local_ssim"}
    assert any(line.startswith("features and the score with the prompt: nothing can judge") for line in verdict.skipped)
    with pytest.raises(ModelError, match="give a CLIP \\(--clip\\)"):
        judge(model, [found], points=2, distances=("local_ssim", "features"))
    whole = judge(model, [found], points=2, games=("deletion",), clip="studio/clip")
    assert {one.curve.measure for one in whole.played} == {"local_ssim", "features", "score"}
    assert any("drawn scenes" in note for note in whole.notes)


def test_networks_of_other_weights_have_scores_of_their_own() -> None:
    one = similarity("clip", model_of(ADAPTED)).weights
    other = family(ADAPTED).build()
    with torch.no_grad():
        next(other.image_encoder.parameters()).add_(1)
    assert similarity("clip", sfumato.wrap(other)).weights != one
    assert Clip().weights != [one]
