"""Loading and wrapping pipelines: embedded models by name, folders in diffusers layout, hub models."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch

from sfumato.bounds import shown
from sfumato.errors import ModelError, Unreadable
from sfumato.models.adapter import adapters_of, token_count
from sfumato.models.adapter_files import Adapter, load_adapters
from sfumato.models.families import LATENT, OWN, PIXEL, SUPPORTED
from sfumato.models.latent import LatentModel
from sfumato.models.model import Model, Source, modules_of
from sfumato.models.notes import notes_of
from sfumato.reading import path_of, read_json

INDEX = "model_index.json"
STUDIO = Path(__file__).parents[1] / "studio" / "weights"
Task = Literal["text-to-image", "image-to-image", "inpainting"]
PAINT_BY_EXAMPLE = "PaintByExamplePipeline"
TASKS: tuple[Task, ...] = ("text-to-image", "image-to-image", "inpainting")


def studio_models() -> dict[str, Path]:
    """The embedded pipelines by name."""
    return {f"studio/{p.parent.name}": p.parent for p in sorted(STUDIO.glob("*/model_index.json"))}


def load(
    source: str | Path = "studio/scenes",
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    revision: str | None = None,
    task: Task | None = None,
    arguments: Mapping[str, Any] | None = None,
    adapters: Sequence[Adapter | str | Path] = (),
) -> Model:
    """Load a pipeline.

    Args:
        source: "studio/scenes" (it ships in the package), a folder in diffusers layout, or a hub id "owner/name".
        device: Where to run; the first accelerator that PyTorch finds, else the CPU.
        dtype: Of the weights; float32 on a CPU, float16 elsewhere.
        revision: Of a hub model; recorded in every explanation.
        task: "text-to-image", "image-to-image" or "inpainting"; by default what the folder says.
        arguments: What the pipeline's call is to be given in addition to what a request says; see ``wrap``. They take
            precedence over the ``arguments`` that the folder's ``sfumato.json`` recommends.
        adapters: IP-Adapters to load into it: safetensors files, or `Adapter`s with a scale and an image encoder.

    Raises:
        ModelError: There is no such model, its files are damaged or not safetensors, or its family is unknown.

    Example:
        >>> load("studio/scenes").family
        'unet'
    """
    if task is not None and task not in TASKS:
        raise ModelError(f"task is {task!r}; choose from: {', '.join(TASKS)}")
    place, known = _place(source)
    try:
        target = torch.device(device) if device is not None else _accelerator()
    except RuntimeError as error:
        raise ModelError(f"there is no device {str(device)!r}; give 'cpu', 'cuda', 'cuda:1' or 'mps'") from error
    kind = dtype or (torch.float32 if target.type == "cpu" else torch.float16)
    name = _check_hub(place, revision) if known is None else _index(Path(place) / INDEX, known)["_class_name"]
    with torch.inference_mode(False):  # else no derivative could ever be taken
        pipeline = _for(task, _read(place, name, kind, None if known else revision))
        if adapters:
            load_adapters(pipeline, adapters)
    try:
        pipeline.to(target)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"the model cannot be moved to {target}: {' '.join(str(error).split())[:200]}") from error
    for module in modules_of(pipeline).values():
        module.eval().requires_grad_(False)
    commit = None if known else _commit(pipeline) or revision
    recommended = notes_of(pipeline).arguments
    return _model(pipeline, Source(known or str(source), commit), {**recommended, **(arguments or {})})


def wrap(pipeline: Any, **arguments: Any) -> Model:
    """Explain a pipeline that you already have. Nothing in it is replaced; it can be used as before at any time.

    Args:
        pipeline: Of diffusers, or one of `sfumato.pipelines`.
        arguments: What its call is to be given beside what a request says, such as ``true_cfg_scale=3.5``,
            ``max_sequence_length=128``, ``controlnet_conditioning_scale=0.7`` or ``prompt_embeds=...``. With embeddings
            in place of a prompt, maps are of tokens by their places, not of words.

    Raises:
        ModelError: Its family is not supported; the message lists those that are. Or its call has no such argument.
    """
    name = pipeline.config.get("_name_or_path") if hasattr(pipeline, "config") else None
    return _model(pipeline, Source(str(name or type(pipeline).__name__)), arguments)


def as_model(given: Any) -> Model:
    """A model as it is, or one made of a pipeline of diffusers.

    Raises:
        ModelError: It is neither, or a pipeline that is not supported.
    """
    from diffusers import DiffusionPipeline

    if isinstance(given, DiffusionPipeline):
        return wrap(given)
    if not hasattr(given, "complete") or not hasattr(given, "pipeline"):
        raise ModelError(
            f"the model is {shown(given)}; give one that sfumato.load('studio/scenes') returns, or a diffusers pipeline"
        )
    model: Model = given
    return model


def _model(pipeline: Any, source: Source, arguments: Mapping[str, Any]) -> Model:
    """The class that answers for a pipeline.

    Raises:
        ModelError: There is none, or the pipeline cannot have what is loaded or given.
    """
    name = type(pipeline).__name__
    _check_family(name)
    if name in PIXEL:
        if arguments:
            raise ModelError(f"{name} is told everything by the request; leave out {', '.join(arguments)}")
        return PIXEL[name](pipeline, source)
    family, task = LATENT[name]
    if projections := adapters_of(pipeline):
        if "cross-attention" not in family.features or task.image == "edit":
            raise ModelError(
                f"an IP-Adapter on {name} is not supported; take Stable Diffusion 1.x, 2.x or XL for text-to-image, "
                "image-to-image or inpainting"
            )
        for projection in projections:
            token_count(projection)  # refuses kinds that are not known
        task = replace(task, adapters=len(projections))
    return (family.kind or LatentModel)(pipeline, source, family, task, arguments)


def _for(task: Task | None, pipeline: Any) -> Any:
    """The same networks in the pipeline of a task."""
    from diffusers import AutoPipelineForImage2Image, AutoPipelineForInpainting, AutoPipelineForText2Image

    name = type(pipeline).__name__
    if task is None or name not in SUPPORTED or name in OWN:
        return pipeline  # has one task, or is refused by its name
    if name in LATENT and LATENT[name][1].name == task:
        return pipeline
    if name in LATENT and LATENT[name][1].image in ("control", "edit") and task == "image-to-image":
        return pipeline  # takes an image in its own way
    kinds = {
        "text-to-image": AutoPipelineForText2Image,
        "image-to-image": AutoPipelineForImage2Image,
        "inpainting": AutoPipelineForInpainting,
    }
    try:
        return kinds[task].from_pipe(pipeline)
    except ValueError as error:
        raise ModelError(f"{type(pipeline).__name__} cannot do {task}: {' '.join(str(error).split())[:200]}") from error


def _check_family(name: str) -> None:
    if name not in SUPPORTED:
        raise ModelError(
            f"{name[:80]} is not supported; supported are: {', '.join(SUPPORTED)} (see CONTRIBUTING on adding a family)"
        )


def _commit(pipeline: Any) -> str | None:
    """The commit of a hub model, from the folder of the cache that its parts were read from."""
    for module in modules_of(pipeline).values():
        parts = Path(str(getattr(module.config, "_name_or_path", ""))).parts
        if "snapshots" in parts[:-1]:
            return parts[parts.index("snapshots") + 1]
    return None


def _accelerator() -> torch.device:
    return (
        torch.accelerator.current_accelerator() or torch.device("cpu")
        if torch.accelerator.is_available()
        else torch.device("cpu")
    )


def _place(source: str | Path) -> tuple[str, str | None]:
    """Where to read from, and the public name when it is not the hub."""
    text = str(source)
    if text in studio_models():
        return str(studio_models()[text]), text
    try:
        folder = path_of(text)
        found = folder.exists()
    except (OSError, Unreadable):  # a name too long for a path, or of no such user
        folder, found = Path(), False
    if found and folder.is_dir():
        if not (folder / INDEX).is_file():
            raise ModelError(
                f"the folder {text} is no pipeline: it has no model_index.json; give a folder in diffusers layout"
            )
        _check_index(folder, text)
        return str(folder), folder.resolve().name
    if found:
        raise ModelError(
            f"{text} is a file; give a folder in diffusers layout, a hub id or one of: {', '.join(studio_models())}"
        )
    if text.startswith(("studio/", ".", "/", "~")) or text.count("/") != 1:
        raise ModelError(
            f"there is no model {text!r}; give a folder, a hub id such as 'owner/name', "
            f"or one of: {', '.join(studio_models())}"
        )
    return text, None


def _check_index(folder: Path, text: str) -> None:
    """Refuse a pipeline of another family, or one that lacks a part, before its weights are read."""
    index = _index(folder / INDEX, text)
    _check_family(index["_class_name"])
    parts = [part for part, kind in index.items() if isinstance(kind, list) and any(kind)]
    if missing := [part for part in parts if not os.path.isdir(folder / part)]:  # transformers makes up a tokenizer
        raise ModelError(f"{text} lacks the folder {missing[0]!r} that its index names; fetch the model again")


def _index(file: Path, named: str) -> dict[str, Any]:
    """What the index of a pipeline says; its class is among it.

    Args:
        file: The index.
        named: What messages call the model.

    Raises:
        ModelError: It cannot be read, or names no class.
    """
    try:
        index = read_json(file)
    except Unreadable as error:
        raise ModelError(f"{INDEX} of {named[:80]} cannot be read: {error.reason}; fetch the model again") from error
    if not isinstance(index, dict) or not isinstance(index.get("_class_name"), str):
        raise ModelError(f"{INDEX} of {named[:80]} names no class of pipelines; fetch the model again")
    return index


def _check_hub(place: str, revision: str | None) -> str | None:
    """Refuse a hub model of another family by its index alone, before gigabytes of weights come; its class."""
    import huggingface_hub

    try:
        file = Path(huggingface_hub.hf_hub_download(place, INDEX, revision=revision))
    except (OSError, ValueError, TypeError):
        return None  # reading the whole model says better what is wrong
    name = str(_index(file, place)["_class_name"])
    _check_family(name)
    return name


def _read(place: str, name: str | None, dtype: torch.dtype, revision: str | None) -> Any:
    from diffusers import DiffusionPipeline
    from safetensors import SafetensorError

    from sfumato.pipelines.label_pipeline import LabelPipeline
    from sfumato.pipelines.reference_pipeline import ReferenceInpaintPipeline

    own = dict(zip(OWN, (LabelPipeline, ReferenceInpaintPipeline), strict=True))
    kind = own.get(str(name), DiffusionPipeline)
    try:
        if name == PAINT_BY_EXAMPLE:
            return _paint_by_example(place, dtype, revision)
        return kind.from_pretrained(place, dtype=dtype, use_safetensors=True, revision=revision)
    except SafetensorError as error:
        raise ModelError(f"a weight file of {place} is damaged or not safetensors ({error}); fetch it again") from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        line = " ".join(str(error).split())[:300]
        raise ModelError(f"the model {place} cannot be loaded: {line}") from error


def _paint_by_example(place: str, dtype: torch.dtype, revision: str | None) -> Any:
    """A ``PaintByExamplePipeline``; diffusers does not find its image encoder's class, so that part is read alone."""
    import huggingface_hub
    from diffusers import PaintByExamplePipeline
    from diffusers.pipelines.deprecated.paint_by_example.image_encoder import PaintByExampleImageEncoder

    folder = Path(place)
    if not folder.is_dir():
        wanted = ["*.json", "*.txt", "*.safetensors"]
        folder = Path(huggingface_hub.snapshot_download(place, revision=revision, allow_patterns=wanted))
    pipeline = PaintByExamplePipeline.from_pretrained(folder, image_encoder=None, dtype=dtype, use_safetensors=True)
    encoder = PaintByExampleImageEncoder.from_pretrained(folder / "image_encoder", dtype=dtype, use_safetensors=True)
    pipeline.register_modules(image_encoder=encoder)
    return pipeline
