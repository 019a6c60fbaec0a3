"""Loading image-prompt adapters from their files, with the image encoder that they were trained with."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sfumato.bounds import checked_number, shown_path
from sfumato.errors import ModelError, Unreadable
from sfumato.models.adapter import adapters_of, token_count
from sfumato.reading import path_of

ENCODER = "image_encoder"
PARTS = ("image_proj", "ip_adapter")


@dataclass(frozen=True)
class Adapter:
    """One IP-Adapter.

    Attributes:
        file: Its safetensors file, or a folder that holds one.
        scale: How strongly its reference acts; 0 switches it off.
        encoder: The folder of the image encoder; by default the pipeline's own, else ``image_encoder`` next to the
            file.

    Raises:
        ModelError: The scale is no finite number.
    """

    file: str
    scale: float = 1.0
    encoder: str | None = None

    def __post_init__(self) -> None:
        """Check the scale."""
        checked_number(f"the scale of the adapter {shown_path(self.file)}", self.scale, ModelError)

    @classmethod
    def parse(cls, text: str) -> Adapter:
        """From "FILE", "FILE,scale=0.6", "FILE,encoder=FOLDER" or both.

        Raises:
            ModelError: The scale is no number, or no file is named.
        """
        file, rest = re.fullmatch(r"(?s)(.*?)((?:,(?:scale|encoder)=[^,]*)*)", text).groups()  # type: ignore[union-attr]
        named = dict(one.split("=", 1) for one in rest.split(",")[1:])
        try:
            scale = float(named.get("scale", 1.0))
        except ValueError:
            raise ModelError(f"the scale of --adapter {text} is no number; give one, such as scale=0.6") from None
        if not file:
            raise ModelError(f"--adapter is {text!r}; expected FILE, such as ip-adapter_sd15.safetensors,scale=0.6")
        return cls(file, scale, named.get("encoder"))


def load_adapters(pipeline: Any, adapters: Sequence[Adapter | str | Path]) -> None:
    """Load IP-Adapters into a pipeline; those that it had are replaced.

    Raises:
        ModelError: The pipeline takes none, a file is missing, is no adapter's or does not fit the pipeline, or the
            image encoder is missing or another one than the adapter was trained with.
    """
    chosen = [one if isinstance(one, Adapter) else Adapter(str(one)) for one in adapters]
    name = type(pipeline).__name__
    if not hasattr(pipeline, "load_ip_adapter") or not hasattr(pipeline, "unet"):
        raise ModelError(f"{name} takes no IP-Adapter; load a Stable Diffusion 1.x, 2.x or XL pipeline")
    files = [_file(one) for one in chosen]
    weights = [_weights(file) for file in files]
    _give_encoder(pipeline, chosen, files)
    try:
        pipeline.load_ip_adapter(weights, subfolder=[""] * len(files), weight_name=[""] * len(files))
    except (KeyError, RuntimeError, ValueError) as error:
        line = " ".join(str(error).split())[:200]
        raise ModelError(
            f"{' and '.join(file.name for file in files)} cannot be loaded into {name}: {line}; take adapters that "
            "were trained for this model"
        ) from error
    for file, projection in zip(files, adapters_of(pipeline), strict=True):
        token_count(projection)  # refuses kinds that are not known
        _check_encoder(pipeline.image_encoder.config, file, projection)
    pipeline.set_ip_adapter_scale([one.scale for one in chosen])


def _file(adapter: Adapter) -> Path:
    """The file of an adapter.

    Raises:
        ModelError: It is missing or no safetensors file, or a folder holds none or several.
    """
    try:
        place = path_of(adapter.file)
        if place.is_dir():
            found = sorted(place.glob("*.safetensors"))
            if len(found) != 1:
                names = ", ".join(one.name for one in found) or "no safetensors file"
                raise ModelError(f"the folder {place} holds {names}; name the file of one adapter")
            return found[0]
        exists = place.is_file()
    except (OSError, Unreadable):  # too long for a path, or none at all
        exists = False
    if not exists:
        raise ModelError(
            f"there is no adapter {shown_path(adapter.file)}; give a safetensors file, or a folder that holds one"
        )
    if place.suffix != ".safetensors":
        raise ModelError(f"{place.name} is no safetensors file; other formats can run code when they are loaded")
    return place


def _weights(file: Path) -> dict[str, dict[str, torch.Tensor]]:
    """The tensors of an adapter's file, by its two parts.

    Raises:
        ModelError: The file is damaged, or no adapter's.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(file)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{file.name} is damaged or not safetensors ({error}); fetch it again") from error
    found: dict[str, dict[str, torch.Tensor]] = {part: {} for part in PARTS}
    for name, tensor in tensors.items():
        part, _, own = name.partition(".")
        if part in found:
            found[part][own] = tensor
    if not all(found.values()):
        raise ModelError(f"{file.name} is no IP-Adapter: it lacks tensors named {PARTS[0]}.* and {PARTS[1]}.*")
    return found


def _folder(named: str) -> Path:
    try:
        return path_of(named)
    except Unreadable as error:
        raise ModelError(f"the image encoder {shown_path(named)} is no folder: {error.reason}") from error


def _give_encoder(pipeline: Any, adapters: Sequence[Adapter], files: Sequence[Path]) -> None:
    """Register the image encoder, and what prepares pictures for it, where the pipeline lacks them.

    Raises:
        ModelError: There is none, its files are damaged, or the adapters name several.
    """
    from transformers import CLIPImageProcessorPil, CLIPVisionModelWithProjection

    named = list(dict.fromkeys(one.encoder for one in adapters if one.encoder is not None))
    if len(named) > 1:
        raise ModelError(f"the adapters name the image encoders {' and '.join(named)}; a pipeline has one for all")
    if named or getattr(pipeline, "image_encoder", None) is None:
        places = [_folder(named[0])] if named else [file.parent / ENCODER for file in files]
        folder = next((place for place in places if (place / "config.json").is_file()), None)
        if folder is None:
            raise ModelError(
                f"there is no image encoder in {' or '.join(map(str, dict.fromkeys(places)))}; give the folder of the "
                "one that the adapter was trained with: --adapter FILE,encoder=FOLDER"
            )
        try:
            encoder = CLIPVisionModelWithProjection.from_pretrained(
                folder, dtype=pipeline.dtype, use_safetensors=True, local_files_only=True
            )
        except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
            line = " ".join(str(error).split())[:200]
            raise ModelError(f"the image encoder in {folder} cannot be loaded: {line}") from error
        pipeline.register_modules(image_encoder=encoder.to(pipeline.device))
    if getattr(pipeline, "feature_extractor", None) is None:
        side = int(pipeline.image_encoder.config.image_size)
        sizes = {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
        pipeline.register_modules(feature_extractor=CLIPImageProcessorPil(**sizes))


def _check_encoder(config: Any, file: Path, projection: Any) -> None:
    """Refuse an image encoder of another width than the adapter's first layer.

    Raises:
        ModelError: The message says which encoder to give.
    """
    plus = hasattr(projection, "latents")
    wanted = int((projection.proj_in if plus else projection.image_embeds).in_features)
    what = "hidden_size" if plus else "projection_dim"
    if int(getattr(config, what)) != wanted:
        raise ModelError(
            f"{file.name} was trained with an image encoder of {what} {wanted}; the one that is loaded has "
            f"{getattr(config, what)}: give the folder of the right one: --adapter FILE,encoder=FOLDER"
        )
