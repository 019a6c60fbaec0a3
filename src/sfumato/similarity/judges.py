"""Which CLIP judges the images of a model: the one that is given, the studio's for the studio's, else its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch

from sfumato.errors import ModelError
from sfumato.models.loading import STUDIO
from sfumato.models.model import Model, modules_of
from sfumato.models.notes import folder_of, notes_of
from sfumato.similarity.clip import EMBEDDED, Clip, Towers

JUDGED = "folder or hub id of a CLIP; by default studio/clip for the studio's models, for others one that they hold"
KNOWS = f"{EMBEDDED} has seen drawn scenes of coloured shapes and nothing else"
OWN = "the pipeline's own"


def clip_for(
    model: Model, given: str | None, *, texts: bool = False, option: str = "clip_model", instead: str = ""
) -> Clip:
    """The CLIP that judges the images of a model.

    Args:
        model: The model.
        given: A chosen source: "studio/clip", a folder or a hub id of a CLIPModel.
        texts: Whether images are compared with texts, so that a text tower of the same space is needed.
        option: Where a source is given, for the message.
        instead: What needs no CLIP, for the message.

    Raises:
        ModelError: Nothing is given, the model is none of the studio's, and it holds no CLIP that could judge its
            images; or the source cannot be read.
    """
    if given is not None or of_the_studio(model):
        return Clip(given or EMBEDDED)
    own = own_clip(model.pipeline)
    if own is not None and (own.towers.texts is not None or not texts):
        return own
    lacks = "the pipeline holds no image tower of a CLIP"
    if own is not None:
        lacks = f"{own.source} has no text tower of the same width"
    other = f", or take {instead}" if instead else ""
    raise ModelError(
        f"nothing can judge the images of {model.source.name}: {lacks}, and {KNOWS}; give {option}, a folder or hub id "
        f"of a CLIPModel such as openai/clip-vit-base-patch32{other}"
    )


def of_the_studio(model: Model) -> bool:
    """Whether a model draws the studio's pictures: an embedded one, or one trained on words that its CLIP knows."""
    folder = folder_of(model.pipeline)
    if folder is not None and folder.resolve().parent == STUDIO.resolve():
        return True
    words = notes_of(model.pipeline).words
    return bool(words) and set(words) <= _known_words()


def notes_on(model: Model, judge: Clip) -> list[str]:
    """What a reader needs to know of the judge of a model's images."""
    if judge.source.startswith(OWN):
        return [f"images are judged by {judge.source}"]
    if judge.source == EMBEDDED and not of_the_studio(model):
        return [f"images are judged by {EMBEDDED}, as chosen, but {KNOWS}"]
    return []


def own_clip(pipeline: Any) -> Clip | None:
    """The CLIP whose image tower a pipeline holds, such as an IP-Adapter's or a safety checker's; None without one.

    A text tower of the pipeline belongs to it if it projects to the same width: the towers of one CLIP do. An image
    tower that has such a text tower goes before one that has none.
    """
    parts: dict[str, Any] = dict(modules_of(pipeline))
    found = [tower for name, part in parts.items() if (tower := _image_tower(name, part)) is not None]
    encoders = {name: part for name, part in parts.items() if name.startswith("text_encoder")}
    texts = {name: part for name, part in encoders.items() if getattr(part, "text_projection", None) is not None}
    pairs = [
        (image, name)
        for image in found
        for name, part in texts.items()
        if part.text_projection.weight.shape[0] == image[2]
    ]
    if not found:
        return None
    (name, vision, _, images), text = pairs[0] if pairs else (found[0], None)
    tokenizer = None if text is None else getattr(pipeline, text.replace("text_encoder", "tokenizer"))
    towers = Towers(
        vision=vision,
        images=images,
        texts=None if text is None else _reader(parts[text]),
        tokenizer=tokenizer,
        longest=0 if text is None else int(parts[text].config.max_position_embeddings),
        processor=_processor(pipeline),
        side=int(vision.config.image_size),
        networks=tuple(parts[one] for one in (name, text) if one is not None),
    )
    return Clip(f"{OWN} {name}{'' if text is None else f' with {text}'}", towers)


def _image_tower(name: str, part: Any) -> tuple[str, Any, int, Callable[[torch.Tensor], torch.Tensor]] | None:
    """Name, network, width and function of an image tower: of a CLIP's own class, or inside a safety checker."""
    vision, projection = getattr(part, "vision_model", None), getattr(part, "visual_projection", None)
    if vision is None or projection is None:
        return None
    width = int(projection.weight.shape[0])
    if part.main_input_name == "pixel_values":
        return name, part, width, lambda pixels: part(pixel_values=pixels).image_embeds
    return name, vision, width, lambda pixels: projection(vision(pixel_values=pixels).pooler_output)


def _reader(encoder: Any) -> Callable[[Any], torch.Tensor]:
    def read(tokens: Any) -> torch.Tensor:
        device = next(encoder.parameters()).device
        place = torch.device("cpu") if device.type == "meta" else device
        found: torch.Tensor = encoder(tokens.input_ids.to(place)).text_embeds
        return found

    return read


def _processor(pipeline: Any) -> Any:
    """The pipeline's own preparation of images for its tower, or that of the first CLIP."""
    from transformers import CLIPImageProcessorPil

    own = getattr(pipeline, "feature_extractor", None)
    return own if getattr(own, "image_mean", None) is not None else CLIPImageProcessorPil()


@lru_cache(maxsize=1)
def _known_words() -> frozenset[str]:
    """The words that the embedded CLIP reads as one token."""
    vocabulary = Clip().towers.tokenizer.get_vocab()
    return frozenset(token.removesuffix("</w>") for token in vocabulary if token.endswith("</w>"))
