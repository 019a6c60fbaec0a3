"""A training of one's own that takes the autoencoder and the encoders of a trained model as they are."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import sfumato
from sfumato.errors import TrainingError
from sfumato_training.autoencoder import load_vae
from sfumato_training.publishing import WEIGHTS
from sfumato_training.recipes import train
from sfumato_training.scenes.clip import load_clip
from sfumato_training.scenes.config import Config
from sfumato_training.scenes.recipe import RECIPE
from sfumato_training.settings import build
from tests.training.conftest import TINY, Silent

STARTED: dict[str, Any] = {
    **TINY,
    "name": "own",
    "vae": {"steps": 0, "channels": [24, 48, 64, 64], "start": "studio/scenes"},
    "clip": {"steps": 0, "start": "studio/clip"},
    "unet": {**TINY["unet"], "channels": [16, 16], "layers": 2, "text_layers": 2},  # type: ignore[dict-item]
}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Path, Silent]:
    """A denoiser of another architecture, trained a little."""
    config: Config = build(RECIPE.config, STARTED)
    out = tmp_path_factory.mktemp("own")
    silent = Silent()
    train("scenes", config, out, progress=silent)
    return config, out, silent


def test_stages_of_no_steps_keep_the_weights_they_start_from(own: tuple[Config, Path, Silent]) -> None:
    config, out, silent = own
    assert {stage for stage, _, _ in silent.steps if stage in ("vae", "clip", "unet")} == {"unet"}
    shipped = load_file(str(WEIGHTS / "scenes" / "vae" / "diffusion_pytorch_model.safetensors"))
    found = load_vae(config.vae, 128, out, "cpu").state_dict()
    for name, value in shipped.items():
        assert torch.equal(found[name], value.float()), name
    shipped = load_file(str(WEIGHTS / "clip" / "model.safetensors"))
    clip, tokenizer = load_clip(config, out)
    for name, value in clip.named_parameters():
        assert torch.equal(value, shipped[name].float()), name
    assert tokenizer("a red circle").input_ids == sfumato.load().pipeline.tokenizer("a red circle").input_ids


def test_the_model_has_the_architecture_that_was_asked_for(own: tuple[Config, Path, Silent], tmp_path: Path) -> None:
    _, out, _ = own
    folder = RECIPE.export(out, tmp_path)
    model = sfumato.load(folder)
    assert model.pipeline.unet.config.block_out_channels == [16, 16]
    assert model.pipeline.unet.config.layers_per_block == 2
    assert model.pipeline.text_encoder.config.num_hidden_layers == 2
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "settings of its own" in card
    assert "going on from that of studio/clip" in card
    found = sfumato.explain(model, sfumato.Request("a red circle", steps=2), "daam")
    assert found.words["map"].shape == (3, 16, 16)


def test_nothing_to_start_from_and_no_steps_is_an_error(
    trained: tuple[Path, Silent], tiny: Config, tmp_path: Path
) -> None:
    shutil.copy(trained[0] / "config.json", tmp_path)
    (tmp_path / "data").symlink_to(trained[0] / "data")
    for stage in ("vae", "clip"):
        config = dataclasses.replace(tiny, **{stage: dataclasses.replace(getattr(tiny, stage), steps=0)})
        with pytest.raises(TrainingError, match=f"{stage} has 0 steps and nothing to start from; give it steps, or a"):
            train("scenes", config, tmp_path, stages=(stage,), progress=Silent())


@pytest.mark.parametrize(
    ("start", "message"), [("studio/clip", "has other sizes than"), ("no/folder", "no/folder holds no CLIPModel")]
)
def test_a_start_that_does_not_fit_says_so(
    start: str, message: str, trained: tuple[Path, Silent], tiny: Config, tmp_path: Path
) -> None:
    shutil.copy(trained[0] / "config.json", tmp_path)
    (tmp_path / "data").symlink_to(trained[0] / "data")
    config = dataclasses.replace(tiny, clip=dataclasses.replace(tiny.clip, start=start))
    with pytest.raises(TrainingError, match=message):
        train("scenes", config, tmp_path, stages=("clip",), progress=Silent())
