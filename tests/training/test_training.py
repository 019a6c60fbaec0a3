from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sfumato.errors import StoreError, TrainingError
from sfumato.studio.scenes import held_out, held_out_captions, scene_of, training_scene
from sfumato.studio.shapes import SIZE
from sfumato.writing.folders import replacing_folder
from sfumato.writing.locks import alone
from sfumato_training import checkpoints
from sfumato_training.autoencoder import load_vae, psnr
from sfumato_training.checkpoints import check_checkpoint, load_latest
from sfumato_training.images import as_tensor
from sfumato_training.progress import Log
from sfumato_training.recipes import train
from sfumato_training.scenes.clip import build_clip, load_clip, retrieval
from sfumato_training.scenes.config import Config, UnetConfig
from sfumato_training.scenes.data import left_out, load_captions, load_images, token_numbers, varied
from sfumato_training.scenes.looking import score
from sfumato_training.scenes.networks import build_scheduler, build_text_encoder, trained_pipeline
from sfumato_training.scenes.recipe import RECIPE
from sfumato_training.scenes.unet import timestep_density
from sfumato_training.schedule import falling_rate, stratified
from sfumato_training.settings import build
from sfumato_training.trainer import step_generator
from tests.training.conftest import Silent


class Cut(Silent):
    """Stops a training in the middle, as Ctrl-C would."""

    def __init__(self, stage: str, step: int) -> None:
        super().__init__()
        self.cut = (stage, step)

    def step(self, stage: str, step: int, steps: int, values: dict[str, float]) -> None:
        super().step(stage, step, steps, values)
        if (stage, step) == self.cut:
            raise KeyboardInterrupt


def test_all_stages_run_and_the_loss_is_finite(trained: tuple[Path, Silent], tiny: Config) -> None:
    out, silent = trained
    for stage in ("vae", "clip", "unet"):
        losses = [values["loss"] for name, _, values in silent.steps if name == stage]
        assert len(losses) == 4
        assert np.isfinite(losses).all()
        assert [path.name for path in checkpoints.checkpoints(out / stage)] == ["step-000002", "step-000004"]
    assert json.loads((out / "config.json").read_text())["unet"]["steps"] == tiny.unet.steps


def test_the_data_are_the_training_scenes(trained: tuple[Path, Silent]) -> None:
    out, _ = trained
    captions = load_captions(out / "data")
    images = load_images(out / "data")
    assert len(captions) == len(images) == 24
    for index in (0, 13, 23):
        np.testing.assert_array_equal(images[index], training_scene(index).image)
        assert captions[index] == training_scene(index).caption
        assert not held_out(captions[index])


@pytest.mark.parametrize("stage", ["vae", "clip", "unet"])
def test_a_training_that_was_cut_off_goes_on_bit_for_bit(
    trained: tuple[Path, Silent], tiny: Config, tmp_path: Path, stage: Any
) -> None:
    whole, _ = trained
    shutil.copy(whole / "config.json", tmp_path)
    for name in ("data", "tokenizer", "latents.npy", "vae", "clip"):
        if name != stage:
            (tmp_path / name).symlink_to(whole / name)
    with pytest.raises(KeyboardInterrupt):
        train("scenes", tiny, tmp_path, stages=(stage,), progress=Cut(stage, 3))
    resumed = Silent()
    train("scenes", tiny, tmp_path, stages=(stage,), progress=resumed)
    assert [step for name, step, _ in resumed.steps if name == stage] == [3, 4]
    expected, found = load_latest(whole / stage), load_latest(tmp_path / stage)
    assert expected is not None
    assert found is not None
    assert expected[0].keys() == found[0].keys()
    for name, tensor in expected[0].items():
        assert torch.equal(tensor, found[0][name]), name


def test_fewer_steps_begin_the_cooldown_of_a_checkpoint() -> None:
    def rate(step: int, steps: int = 1000) -> float:
        return falling_rate(1.0, step, steps, warmup=10, cooldown=0.2)

    assert rate(0) == pytest.approx(0.1)
    assert rate(500) == rate(799) == 1.0
    assert rate(900) == pytest.approx(0.51)
    assert rate(999) == pytest.approx(0.02, abs=0.01)
    assert rate(540, steps=600) == pytest.approx(0.51)


def test_averaged_weights_differ_from_the_last_ones_and_are_what_the_pipeline_uses(
    trained: tuple[Path, Silent], tiny: Config
) -> None:
    out, _ = trained
    found = load_latest(out / "unet")
    assert found is not None
    pipeline, steps = trained_pipeline(tiny, out)
    assert steps == 4
    for name, parameter in pipeline.unet.named_parameters():
        assert torch.equal(parameter, found[0][f"ema.unet.{name}"])
    assert any(not torch.equal(found[0][f"ema.unet.{name}"], found[0][f"model.unet.{name}"])
               for name, _ in pipeline.unet.named_parameters())  # fmt: skip


def test_latents_are_scaled_to_unit_variance(trained: tuple[Path, Silent], tiny: Config) -> None:
    out, _ = trained
    pipeline, _ = trained_pipeline(tiny, out)
    with torch.no_grad():
        latents = (
            load_vae(tiny.vae, SIZE, out, tiny.device).encode(as_tensor(load_images(out / "data"))).latent_dist.mean
        )
    assert float(latents.std()) * pipeline.vae.config.scaling_factor == pytest.approx(1.0, rel=0.02)


def test_samples_are_drawn_and_measured(trained: tuple[Path, Silent], tiny: Config, tmp_path: Path) -> None:
    from PIL import Image

    whole, _ = trained
    shutil.copy(whole / "config.json", tmp_path)
    for name in ("data", "tokenizer", "latents.npy", "vae", "clip"):
        (tmp_path / name).symlink_to(whole / name)
    config = dataclasses.replace(tiny, unet=dataclasses.replace(tiny.unet, steps=1, samples_every=1))
    silent = Silent()
    train("scenes", config, tmp_path, stages=("unet",), progress=silent)
    stage, step, values = silent.events[-1]
    assert (stage, step) == ("unet", 1)
    assert {"objects", "binding", "relations", "counts"} <= values.keys()
    with Image.open(tmp_path / "samples" / "000001.png") as image:
        assert image.size == (8 * 128, 4 * 128)


def test_starting_over_forgets_the_checkpoints(trained: tuple[Path, Silent], tiny: Config, tmp_path: Path) -> None:
    shutil.copy(trained[0] / "config.json", tmp_path)
    (tmp_path / "data").symlink_to(trained[0] / "data")
    train("scenes", tiny, tmp_path, stages=("clip",), progress=Silent())
    again = Silent()
    train("scenes", tiny, tmp_path, stages=("clip",), progress=again)
    assert not again.steps
    train("scenes", tiny, tmp_path, stages=("clip",), progress=again, resume=False)
    assert [step for _, step, _ in again.steps] == [1, 2, 3, 4]


def test_half_written_checkpoints_are_ignored_and_cleared(tmp_path: Path) -> None:
    checkpoints.save(tmp_path, 2, {"a": torch.zeros(1)}, {})
    with replacing_folder(tmp_path / "step-000004", check_checkpoint) as stage:
        (stage / "tensors.safetensors").write_bytes(b"half")
        shutil.copytree(stage.parents[1], tmp_path / f".sfumato-{'0' * 16}")  # as a kill leaves it
        found = load_latest(tmp_path)
        assert found is not None
        assert found[1]["step"] == 2
    shutil.rmtree(tmp_path / "step-000004")
    for step in (6, 8):
        checkpoints.save(tmp_path, step, {"a": torch.ones(1)}, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000006", "step-000008"]


def test_a_checkpoint_with_other_files_in_it_stays(tmp_path: Path) -> None:
    for step in (2, 4, 6, 8):
        checkpoints.save(tmp_path, step, {"a": torch.zeros(1)}, {})
        if step == 2:
            (tmp_path / "step-000002" / "notes.txt").write_text("mine")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000002", "step-000006", "step-000008"]
    assert (tmp_path / "step-000002" / "notes.txt").read_text() == "mine"


def test_only_a_work_folder_is_trained_in_and_only_what_stages_wrote_is_removed(
    trained: tuple[Path, Silent], tiny: Config, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text('{"mine": true}')
    with pytest.raises(TrainingError, match="is not empty and no work folder of a training"):
        train("scenes", tiny, tmp_path, stages=("clip",), progress=Silent())
    assert (tmp_path / "config.json").read_text() == '{"mine": true}'
    shutil.copy(trained[0] / "config.json", tmp_path)
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip" / "paper.tex").write_text("mine")
    with pytest.raises(StoreError, match=r"clip also holds files that Sfumato did not write \(paper\.tex\)"):
        train("scenes", tiny, tmp_path, stages=("clip",), progress=Silent(), resume=False)
    (tmp_path / "unet").symlink_to(tmp_path / "clip", target_is_directory=True)
    with pytest.raises(StoreError, match="unet is a link"):
        train("scenes", tiny, tmp_path, stages=("unet",), progress=Silent(), resume=False)
    assert (tmp_path / "clip" / "paper.tex").read_text() == "mine"


def test_a_stage_is_trained_by_one_at_a_time(
    trained: tuple[Path, Silent], tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(trained[0] / "config.json", tmp_path)
    (tmp_path / "data").symlink_to(trained[0] / "data")
    with alone(tmp_path / ".clip.lock") as held:
        assert held
        with pytest.raises(TrainingError, match="another training runs the stage 'clip'"):
            train("scenes", tiny, tmp_path, stages=("clip",), progress=Silent())
    train("scenes", tiny, tmp_path, stages=("clip",), progress=Silent())
    assert not list(tmp_path.glob(".*"))


def test_a_broken_checkpoint_says_what_to_do(tmp_path: Path) -> None:
    checkpoints.save(tmp_path, 2, {"a": torch.zeros(1000)}, {})
    file = tmp_path / "step-000002" / "tensors.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(TrainingError, match="remove it"):
        load_latest(tmp_path)


def test_a_checkpoint_of_another_shape_is_refused(trained: tuple[Path, Silent], tiny: Config, tmp_path: Path) -> None:
    shutil.copy(trained[0] / "config.json", tmp_path)
    for name in ("data", "clip"):
        (tmp_path / name).symlink_to(trained[0] / name)
    other = dataclasses.replace(tiny, clip=dataclasses.replace(tiny.clip, width=32))
    with pytest.raises(TrainingError, match="does not fit this config"):
        train("scenes", other, tmp_path, stages=("clip",), progress=Silent())


@pytest.mark.parametrize(("stage", "missing"), [("vae", "data"), ("clip", "data"), ("unet", "vae")])
def test_a_stage_names_the_stage_it_needs(tiny: Config, tmp_path: Path, stage: Any, missing: str) -> None:
    with pytest.raises(TrainingError, match=missing):
        train("scenes", tiny, tmp_path, stages=(stage,), progress=Silent())


def test_an_unknown_stage_and_a_folder_that_is_a_file_are_errors(tiny: Config, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="data, vae, clip, unet"):
        train("scenes", tiny, tmp_path, stages=("dance",), progress=Silent())
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot write .*a part of the path is a file; choose another place"):
        train("scenes", tiny, tmp_path / "file", stages=("data",), progress=Silent())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"unet": {"step": 3}}, "step is no setting"),
        ({"unet": {"steps": "many"}}, "must be int"),
        ({"unet": {"compile": 1}}, "must be bool"),
        ({"unet": 3}, "table"),
        ({"speed": 3}, "speed is no setting"),
        ({"vae": {"channels": [8, "x"]}}, "channels must be tuple"),
    ],
)
def test_a_wrong_config_says_what_is_expected(values: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        build(RECIPE.config, values)


def test_the_shipped_config_reads_and_survives_a_round_trip() -> None:
    config = RECIPE.load()
    assert config.name == "scenes"
    assert build(RECIPE.config, json.loads(json.dumps(dataclasses.asdict(config)))) == config


def test_an_unreadable_config_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("= 3")
    for name in ("bad.toml", "absent.toml"):
        with pytest.raises(TrainingError, match=name):
            RECIPE.load(tmp_path / name)


def test_random_numbers_follow_from_seed_stage_and_step() -> None:
    def draw(*key: Any) -> float:
        return float(torch.rand((), generator=step_generator(*key)))

    assert draw(0, "vae", 5) == draw(0, "vae", 5)
    assert len({draw(0, "vae", 5), draw(1, "vae", 5), draw(0, "unet", 5), draw(0, "vae", 6)}) == 4


def test_captions_vary_as_told() -> None:
    caption = "a red circle left of a blue square, gray background"
    generator = torch.Generator().manual_seed(0)
    texts = varied([caption] * 4000, empty=0.1, drop_captions=0.35, drop_words=0.3, generator=generator)
    assert texts.count("") / 4000 == pytest.approx(0.1, abs=0.02)
    assert texts.count(caption) / 4000 == pytest.approx(0.9 * 0.65, abs=0.03)
    words = caption.replace(",", " ,").split()
    for text in texts:
        rest = iter(words)
        assert all(word in rest for word in text.replace(",", " ,").split()), text  # a subsequence


def test_leaving_out_nothing_and_everything() -> None:
    generator = torch.Generator().manual_seed(0)
    assert left_out("a red star, gray background", 0.0, generator) == "a red star, gray background"
    assert left_out("a red star, gray background", 1.0, generator) == ""


def test_timesteps_cover_every_noise_level_as_often_as_the_density_says() -> None:
    density = timestep_density(build_scheduler(UnetConfig()).alphas_cumprod)
    assert float(density.sum()) == pytest.approx(1)
    assert float(density.max() / density.min()) == pytest.approx(1 / 0.15, rel=1e-3)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.cat([stratified(64, generator, density) for _ in range(400)])
    assert 0 <= drawn.min() <= drawn.max() < 1000
    found = torch.bincount(drawn, minlength=1000).reshape(10, 100).sum(1) / len(drawn)
    torch.testing.assert_close(found, density.reshape(10, 100).sum(1), atol=2e-3, rtol=0)


def test_the_text_encoder_is_the_first_layer_of_the_clip(trained: tuple[Path, Silent], tiny: Config) -> None:
    clip, tokenizer = load_clip(tiny, trained[0])
    encoder = build_text_encoder(clip, 1).eval()
    tokens = token_numbers(tokenizer, ["a red circle", ""], 12)
    with torch.no_grad():
        states = clip.text_model(tokens, output_hidden_states=True).hidden_states
        expected = clip.text_model.final_layer_norm(states[1])
        found = encoder(tokens).last_hidden_state
        longer = encoder(token_numbers(tokenizer, ["a red circle", ""], 20)).last_hidden_state
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(longer[:, :12], found)  # causal: a shorter context changes nothing before its end


def test_the_schedule_ends_in_noise() -> None:
    scheduler = build_scheduler(UnetConfig())
    assert scheduler.config.prediction_type == "v_prediction"
    assert float(scheduler.alphas_cumprod[-1]) < 1e-3


def test_scenes_that_keep_their_promises_score_well() -> None:
    captions = list(held_out_captions(12))
    images = np.stack([scene_of(caption, 3).image for caption in captions])
    right = score(images, captions)
    assert right["objects"] > 0.9
    wrong = score(np.roll(images, 1, axis=0), captions)
    assert wrong["objects"] < 0.5


def test_psnr_of_a_perfect_autoencoder_is_huge() -> None:
    class Echo:
        device = torch.device("cpu")

        def encode(self, pixels: torch.Tensor) -> Any:
            self.pixels = pixels
            return type("Out", (), {"latent_dist": type("Dist", (), {"mean": pixels})})

        def decode(self, latent: torch.Tensor) -> Any:
            return type("Out", (), {"sample": latent})

    images = np.stack([scene_of("a red circle", seed).image for seed in range(2)])
    assert psnr(Echo(), images) > 60


def test_an_untrained_clip_retrieves_by_chance(trained: tuple[Path, Silent], tiny: Config) -> None:
    _, tokenizer = load_clip(tiny, trained[0])
    torch.manual_seed(0)
    assert retrieval(build_clip(tiny.clip, tokenizer).eval(), tokenizer, captions=20) <= 0.3


def test_the_log_is_json_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = Log(tmp_path / "log.jsonl", every=2)
    for step in (1, 2, 3):
        log.step("vae", step, 3, {"loss": 1 / step})
    log.event("vae", 3, {"psnr": 30.0})
    entries = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(entry["step"], entry.get("loss")) for entry in entries] == [(2, 0.5), (3, 0.33333), (3, None)]
    assert "psnr 30" in capsys.readouterr().err
