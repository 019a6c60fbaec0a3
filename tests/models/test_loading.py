from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import CMStochasticIterativeScheduler, ConsistencyModelPipeline, StableDiffusionPipeline, UNet2DModel

import sfumato
from sfumato.errors import ModelError
from sfumato.generation.generate import generate
from sfumato.models.loading import studio_models
from sfumato.request import Request

Build = Callable[..., StableDiffusionPipeline]


@pytest.fixture(scope="module")
def whole(tiny_sd: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_sd().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the model to spoil."""
    copy = tmp_path / "tiny"
    shutil.copytree(whole, copy)
    yield copy
    shutil.rmtree(copy)


def load(source: Any, **more: Any) -> Any:
    return sfumato.load(source, device="cpu", **more)


def test_a_folder_makes_the_images_of_the_pipeline_that_was_saved(whole: Path, tiny_sd: Build) -> None:
    model = load(whole)
    assert (model.source.name, model.source.revision, model.family) == ("tiny", None, "unet")
    for module in (model.pipeline.unet, model.pipeline.vae, model.pipeline.text_encoder):
        assert not any(part.training for part in module.modules())
        assert not any(weight.requires_grad for weight in module.parameters())
        assert {weight.dtype for weight in module.parameters()} == {torch.float32}
    request = Request("a red cat", seed=3, steps=2, guidance=7.5, height=16, width=16)
    assert torch.equal(generate(model, request).latents, generate(sfumato.wrap(tiny_sd()), request).latents)


def test_a_relative_folder_and_a_type(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(whole)
    model = load(".", dtype=torch.bfloat16)
    assert model.source.name == "tiny"
    assert model.pipeline.unet.dtype == torch.bfloat16


def test_a_hub_model_in_the_cache_records_its_commit(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import diffusers.pipelines.pipeline_utils as reading

    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "models--someone--tiny"
    shutil.copytree(whole, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    own = reading.DiffusionPipeline.from_pretrained.__func__
    monkeypatch.setattr(
        reading.DiffusionPipeline,
        "from_pretrained",
        classmethod(lambda cls, place, **more: own(cls, place, cache_dir=str(tmp_path / "hub"), **more)),
    )
    monkeypatch.chdir(tmp_path)
    model = load("someone/tiny")
    assert (model.source.name, model.source.revision) == ("someone/tiny", commit)


@pytest.mark.parametrize("source", [".", "empty"])
def test_a_folder_that_is_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ModelError, match="is no pipeline: it has no model_index.json; give a folder in diffusers layout"
    ):
        load(source)


def test_a_file_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"model.safetensors is a file; give a folder in diffusers layout, a hub id"):
        load(tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    "source", ["studio/nosuch", "./nosuch", "nosuch", "/no/such/folder", "a/b/c", "a\0b", "x" * 5000]
)
def test_a_name_that_means_nothing(source: str) -> None:
    with pytest.raises(
        ModelError, match="there is no model .*; give a folder, a hub id such as 'owner/name', or one of"
    ):
        load(source)


@pytest.mark.parametrize("source", ["nobody/no-such-model", "no body/x!"])
def test_a_hub_model_that_cannot_be_reached_is_one_line(source: str) -> None:
    with pytest.raises(ModelError, match=f"the model {source} cannot be loaded: ") as caught:
        load(source)
    assert "\n" not in str(caught.value)


def test_a_hub_model_of_another_family_is_refused_before_its_weights_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model_index.json").write_text('{"_class_name": "CogVideoXPipeline"}')
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda place, name, revision: str(tmp_path / name))
    monkeypatch.setattr("diffusers.DiffusionPipeline.from_pretrained", None)
    with pytest.raises(ModelError, match="CogVideoXPipeline is not supported; supported are: StableDiffusionPipeline"):
        load("someone/video")


def test_a_pickle_is_never_read(folder: Path, tmp_path: Path) -> None:
    """Whatever its name: reading one runs the code in it."""
    trap = tmp_path / "sprung"
    assert not trap.exists()
    payload = pickle.dumps(_Trap(trap))
    for part, name in (
        ("unet", "diffusion_pytorch_model"),
        ("text_encoder", "model"),
        ("vae", "diffusion_pytorch_model"),
    ):
        weights = folder / part / f"{name}.safetensors"
        own = weights.read_bytes()
        weights.write_bytes(payload)
        with pytest.raises(ModelError, match="safetensors|cannot be loaded"):
            load(folder)
        weights.unlink()
        for old in (f"{name}.bin", "pytorch_model.bin"):
            (folder / part / old).write_bytes(payload)
        with pytest.raises(ModelError):
            load(folder)
        weights.write_bytes(own)
        load(folder)  # beside whole weights the pickle is not touched
    assert not trap.exists()
    pickle.loads(payload)
    assert trap.exists()  # the trap works


class _Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_code_in_a_models_folder_is_never_run(folder: Path, tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    code = f"from pathlib import Path\nPath({str(trap)!r}).touch()\nclass Evil: pass\n"
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "evil.py").write_text(code)
    (folder / "unet" / "evil.py").write_text(code)
    for change in ({"_class_name": ["evil", "Evil"]}, {"unet": ["evil", "Evil"]}):
        (folder / "model_index.json").write_text(json.dumps(index | change))
        with pytest.raises(ModelError):
            load(folder)
    assert not trap.exists()


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "truncated unet": lambda f: _truncate(f / "unet" / "diffusion_pytorch_model.safetensors"),
    "truncated text encoder": lambda f: _truncate(f / "text_encoder" / "model.safetensors"),
    "empty vae": lambda f: (f / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b""),
    "no unet": lambda f: shutil.rmtree(f / "unet"),
    "no tokenizer": lambda f: shutil.rmtree(f / "tokenizer"),
    "no weights": lambda f: (f / "vae" / "diffusion_pytorch_model.safetensors").unlink(),
    "no scheduler": lambda f: shutil.rmtree(f / "scheduler"),
    "broken config": lambda f: (f / "unet" / "config.json").write_text("{"),
    "other sizes": lambda f: (f / "unet" / "config.json").write_text(
        (f / "unet" / "config.json").read_text().replace('"cross_attention_dim": 32', '"cross_attention_dim": 48')
    ),
    "broken index": lambda f: (f / "model_index.json").write_text("{"),
    "index of a list": lambda f: (f / "model_index.json").write_text("[1]"),
    "index without class": lambda f: (f / "model_index.json").write_text("{}"),
    "index not text": lambda f: (f / "model_index.json").write_bytes(b"\xff\xfe\x00"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_model_is_one_clear_line(folder: Path, damage: str) -> None:
    DAMAGE[damage](folder)
    with pytest.raises(ModelError) as caught:
        load(folder)
    assert "\n" not in str(caught.value)
    assert "tiny" in str(caught.value)


def test_another_family_is_refused_before_its_weights_are_read(tmp_path: Path) -> None:
    unet = UNet2DModel(
        sample_size=8,
        block_out_channels=(8,),
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        norm_num_groups=4,
    )
    pipeline = ConsistencyModelPipeline(unet, CMStochasticIterativeScheduler())
    message = "ConsistencyModelPipeline is not supported; supported are: StableDiffusionPipeline"
    with pytest.raises(ModelError, match=message):
        sfumato.wrap(pipeline)
    pipeline.save_pretrained(tmp_path / "m")
    (tmp_path / "m" / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match=message):
        load(tmp_path / "m")
    for thing in ("studio/scenes", None, unet):
        with pytest.raises(ModelError, match=f"{type(thing).__name__} is not supported"):
            sfumato.wrap(thing)


@pytest.mark.parametrize("device", ["banana", "cuda:99", "cuda"])
def test_a_device_that_is_not_there(whole: Path, device: str) -> None:
    if device == "cuda" and torch.cuda.is_available():
        device = "cuda:98"
    with pytest.raises(ModelError, match=f"there is no device '{device}'|cannot be moved to {device}"):
        sfumato.load(whole, device=device)


def test_the_embedded_models_are_found_by_name() -> None:
    for name, path in studio_models().items():
        assert name.startswith("studio/")
        assert (path / "model_index.json").is_file()
