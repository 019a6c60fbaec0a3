from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from sfumato.errors import TrainingError
from sfumato.models.flux import packed
from sfumato.models.loading import load
from sfumato.request import Request
from sfumato.studio.tokenizer import pieces_of, scene_words
from sfumato.studio.unigram import SPACE, scene_unigram_tokenizer
from sfumato_training.checkpoints import load_latest
from sfumato_training.precision import mixed_precision, multiplies_bfloat16
from sfumato_training.recipes import recipe, train
from sfumato_training.samples import generated
from sfumato_training.scenes_mmdit.config import Config
from sfumato_training.scenes_mmdit.networks import build_transformer, recommended, trained_pipeline
from sfumato_training.scenes_mmdit.recipe import RECIPE
from sfumato_training.scenes_mmdit.transformer import capitalised, noise_levels, positions, shares
from sfumato_training.settings import build
from tests.training.conftest import Silent
from tests.training.test_training import Cut

TINY = {
    "checkpoint_every": 2,
    "data": {"scenes": 24, "workers": 1},
    "vae": {"steps": 2, "batch": 2, "crop": 32, "channels": [8, 8, 8]},
    "transformer": {
        "steps": 4,
        "batch": 4,
        "heads": 2,
        "axes": [4, 6, 6],
        "double": 1,
        "single": 1,
        "text_width": 16,
        "text_layers": 1,
        "text_heads": 2,
        "warmup": 1,
        "samples_every": 0,
        "encode_batch": 12,
    },
}


@pytest.fixture(scope="module")
def tiny() -> Config:
    config: Config = build(recipe("scenes-mmdit").config, TINY)
    return config


@pytest.fixture(scope="module")
def trained(tiny: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("mmdit")
    train("scenes-mmdit", tiny, out, progress=Silent())
    return out


@pytest.fixture(scope="module")
def exported(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return RECIPE.export(trained, tmp_path_factory.mktemp("weights"))


def test_a_stage_that_the_settings_leave_out_keeps_the_defaults_of_its_training(tiny: Config) -> None:
    assert tiny.clip == Config().clip
    assert tiny.clip.steps == 0


def test_the_words_have_the_pieces_of_the_other_model() -> None:
    tokenizer = scene_unigram_tokenizer(32)
    for word in scene_words():
        first, *others = pieces_of(word)
        assert tokenizer.tokenize(word) == [SPACE + first, *others]
        assert tokenizer.tokenize(word.capitalize()) == [SPACE + first.capitalize(), *others]
    assert tokenizer.tokenize("moon") == [SPACE, *"moon"]


def test_latents_and_positions_are_those_of_the_pipeline() -> None:
    from diffusers import FluxPipeline

    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(packed(latents), FluxPipeline._pack_latents(latents, 2, 4, 8, 8))
    ids = FluxPipeline._prepare_latent_image_ids(2, 4, 4, "cpu", torch.float32)
    assert torch.equal(positions(4), ids)


def test_blocks_start_as_the_identity_and_the_output_at_zero(tiny: Config) -> None:
    transformer = build_transformer(tiny.transformer, 16)
    with torch.no_grad():
        velocity = transformer(
            hidden_states=torch.randn(1, 16, 16),
            encoder_hidden_states=torch.randn(1, 5, 16),
            pooled_projections=torch.randn(1, 16),
            timestep=torch.tensor([0.5]),
            img_ids=positions(4),
            txt_ids=torch.zeros(5, 3),
            return_dict=False,
        )[0]
    assert float(velocity.abs().max()) == 0
    with pytest.raises(TrainingError, match="three numbers: index, row, column"):
        build_transformer(dataclasses.replace(tiny.transformer, axes=(8, 8)), 16)


def test_noise_levels_are_logit_normal_and_spread_over_a_batch() -> None:
    levels = noise_levels(4000, 1.0, torch.Generator().manual_seed(0))
    logits = torch.logit(levels)
    assert float(logits.mean()) == pytest.approx(0, abs=0.01)
    assert float(logits.std()) == pytest.approx(1, abs=0.02)
    few = noise_levels(4, 1.0, torch.Generator().manual_seed(1))
    assert (few.diff() > 0).all()


def test_kinds_of_captions_have_their_shares() -> None:
    captions = ["a red circle"] * 6 + ["a red circle left of a blue square"] * 2 + ["two red circles"] * 2
    chances = shares(captions, 0.5, 0.2)
    assert float(chances[:6].sum()) == pytest.approx(0.3)
    assert float(chances[6:8].sum()) == pytest.approx(0.5)
    assert float(chances[8:].sum()) == pytest.approx(0.2)
    with pytest.raises(TrainingError, match="less than 1"):
        shares(captions, 0.8, 0.3)


def test_a_share_of_the_captions_begins_with_a_capital() -> None:
    texts = capitalised(["a red circle", ""] * 200, 0.25, torch.Generator().manual_seed(0))
    assert 30 < texts.count("A red circle") < 70
    assert texts.count("") == 200


def test_a_training_that_was_cut_off_goes_on_bit_for_bit(trained: Path, tiny: Config, tmp_path: Path) -> None:
    shutil.copy(trained / "config.json", tmp_path)
    for name in ("data", "tokenizer", "latents.npy", "vae", "clip"):
        (tmp_path / name).symlink_to(trained / name)
    with pytest.raises(KeyboardInterrupt):
        train("scenes-mmdit", tiny, tmp_path, stages=("transformer",), progress=Cut("transformer", 3))
    train("scenes-mmdit", tiny, tmp_path, stages=("transformer",), progress=Silent())
    expected, found = load_latest(trained / "transformer"), load_latest(tmp_path / "transformer")
    assert expected is not None
    assert found is not None
    assert expected[0].keys() == found[0].keys()
    for name, tensor in expected[0].items():
        assert torch.equal(tensor, found[0][name]), name


def test_the_exported_model_loads_with_its_guidance_and_its_context(exported: Path, tiny: Config) -> None:
    model = load(exported)
    assert dict(model.arguments) == {"true_cfg_scale": 2.0, "max_sequence_length": 32}
    assert model.branches(model.complete(Request("a red circle"))).names == ("conditional", "unconditional")
    unguided = load(exported, arguments={"true_cfg_scale": 1.0})
    assert unguided.branches(unguided.complete(Request("a red circle"))).names == ("conditional",)
    words = model.tokens("A red triangle").words
    assert [word.text for word in words] == ["A", "red", "triangle"]
    completed = model.complete(Request("a red circle"))
    assert (completed.height, completed.width, completed.steps) == (128, 128, 25)


def test_the_exported_model_draws_what_its_parts_draw(exported: Path, tiny: Config, trained: Path) -> None:
    pipeline, steps = trained_pipeline(tiny, trained)
    assert steps == 4
    arguments = {"negative_prompt": "", "height": 128, "width": 128, "num_inference_steps": 2}
    arguments |= recommended(tiny.transformer)
    before = generated(pipeline, [0], ["a red circle"], **arguments)
    assert before.shape == (1, 128, 128, 3)
    after = generated(load(exported).pipeline, [0], ["a red circle"], **arguments)
    np.testing.assert_allclose(after.astype(float), before.astype(float), atol=3)  # half precision of the weights


def test_bfloat16_is_taken_only_where_the_hardware_multiplies_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def can(**found: bool) -> None:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)

    cpu = torch.device("cpu")
    can(avx2=True, avx512_bf16=False, amx_bf16=False)
    assert not multiplies_bfloat16(cpu)
    with mixed_precision(cpu):
        assert not torch.is_autocast_enabled("cpu")
    can(avx2=True, avx512_bf16=True)
    assert multiplies_bfloat16(cpu)
    with mixed_precision(cpu):
        assert torch.get_autocast_dtype("cpu") == torch.bfloat16
        assert torch.is_autocast_enabled("cpu")
