from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from sfumato.errors import StoreError, TrainingError
from sfumato.studio.tokenizer import scene_words
from sfumato_training import publishing as module
from sfumato_training.scenes.clip import load_clip
from sfumato_training.scenes.config import Config
from sfumato_training.scenes.data import token_numbers
from sfumato_training.scenes.networks import trained_pipeline
from sfumato_training.scenes.recipe import RECIPE
from tests.training.conftest import Silent


@pytest.fixture(scope="module")
def exported(trained: tuple[Path, Silent], tmp_path_factory: pytest.TempPathFactory) -> Path:
    weights = tmp_path_factory.mktemp("weights")
    quality = {"objects right": 0.913, "retrieval top-1": 0.95}
    scenes = RECIPE.export(trained[0], weights, quality=quality, took="2.5 hours")
    assert scenes == weights / "scenes"
    assert (weights / "clip").is_dir()
    return weights


@pytest.fixture(scope="module")
def pipeline(exported: Path) -> Any:
    from diffusers import StableDiffusionPipeline

    loaded = StableDiffusionPipeline.from_pretrained(str(exported / "scenes"), local_files_only=True)
    loaded.set_progress_bar_config(disable=True)
    return loaded


def test_the_exported_pipeline_has_the_averaged_weights_in_half_precision(
    pipeline: Any, trained: tuple[Path, Silent], tiny: Config
) -> None:
    source, _ = trained_pipeline(tiny, trained[0])
    for part in ("unet", "text_encoder", "vae"):
        expected = dict(getattr(source, part).named_parameters())
        for name, parameter in getattr(pipeline, part).named_parameters():
            torch.testing.assert_close(parameter.float(), expected[name].half().float(), rtol=0, atol=0)
    assert pipeline.vae.config.scaling_factor == pytest.approx(source.vae.config.scaling_factor)


def test_it_loads_as_float32_and_draws_an_image(pipeline: Any) -> None:
    assert {part.dtype for part in (pipeline.unet, pipeline.text_encoder, pipeline.vae)} == {torch.float32}
    image = pipeline("a red circle", num_inference_steps=2, generator=torch.Generator().manual_seed(0)).images[0]
    assert image.size == (128, 128)


def test_the_folder_holds_safetensors_only_and_no_safety_checker(exported: Path) -> None:
    files = [path for path in exported.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".md", ".txt"}
    index = json.loads((exported / "scenes" / "model_index.json").read_text())
    assert index["_class_name"] == "StableDiffusionPipeline"
    assert index["safety_checker"] == index["feature_extractor"] == [None, None]
    assert not list(exported.glob(".*"))


def test_the_known_words_and_the_defaults_travel_with_the_pipeline(exported: Path) -> None:
    notes = json.loads((exported / "scenes" / "sfumato.json").read_text())
    assert notes["words"] == sorted(scene_words())
    assert notes["defaults"]["steps"] > 0


def test_the_exported_clip_gives_the_features_of_the_trained_one(
    exported: Path, trained: tuple[Path, Silent], tiny: Config
) -> None:
    from transformers import CLIPModel, CLIPTokenizer

    model = CLIPModel.from_pretrained(str(exported / "clip"), local_files_only=True, dtype=torch.float32).eval()
    tokenizer = CLIPTokenizer.from_pretrained(str(exported / "clip"), local_files_only=True)
    source, _ = load_clip(tiny, trained[0])
    tokens = token_numbers(tokenizer, ["a red circle"], 77)
    pixels = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for one, other in ((model, source),):
            torch.testing.assert_close(
                one.get_text_features(input_ids=tokens).pooler_output,
                other.get_text_features(input_ids=tokens).pooler_output,
                rtol=0.02,
                atol=0.02,
            )
            torch.testing.assert_close(
                one.get_image_features(pixel_values=pixels).pooler_output,
                other.get_image_features(pixel_values=pixels).pooler_output,
                rtol=0.02,
                atol=0.02,
            )


def test_the_image_processor_scales_pixels_as_in_training(exported: Path) -> None:
    import numpy as np
    from transformers import CLIPImageProcessorPil

    from sfumato.studio.scenes import scene
    from sfumato_training.images import as_tensor

    processor = CLIPImageProcessorPil.from_pretrained(str(exported / "clip"), local_files_only=True)
    image = scene(0).image
    found = torch.as_tensor(np.asarray(processor(image, return_tensors="np")["pixel_values"]))
    torch.testing.assert_close(found, as_tensor(image[None]), rtol=0, atol=1e-5)


def test_the_card_says_what_was_measured(exported: Path) -> None:
    card = (exported / "scenes" / "README.md").read_text()
    assert "| objects right | 91.3% |" in card
    assert "2.5 hours" in card
    assert "held out" in " ".join(card.split())
    assert "| retrieval top-1 | 95.0% |" in (exported / "clip" / "README.md").read_text()


def test_a_failed_export_leaves_the_old_model(
    trained: tuple[Path, Silent], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    RECIPE.export(trained[0], tmp_path)
    before = (tmp_path / "scenes" / "README.md").read_text()
    monkeypatch.setattr(module, "LIMIT_MB", 0.001)
    with pytest.raises(StoreError, match="must stay under"):
        RECIPE.export(trained[0], tmp_path, quality={"objects right": 1.0})
    assert (tmp_path / "scenes" / "README.md").read_text() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip", "scenes"]


def test_exporting_from_no_work_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no work folder"):
        RECIPE.export(tmp_path)
