"""The training scenes on disk, and the captions as the models see them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sfumato.errors import TrainingError
from sfumato.models.lexicon import split_words
from sfumato.studio.scenes import training_scene
from sfumato.studio.shapes import SIZE
from sfumato.writing.files import write_text
from sfumato_training.drawing import in_chunks
from sfumato_training.progress import Progress
from sfumato_training.scenes.config import Captioned, DataConfig

IMAGES, CAPTIONS = "images.npy", "captions.txt"
_CHUNK = 500


def _draw(start: int, stop: int, path: Path) -> list[str]:
    """Draw some scenes into the shared file and give their captions."""
    images = np.lib.format.open_memmap(path, mode="r+")
    captions = []
    for index in range(start, stop):
        scene = training_scene(index)
        images[index] = scene.image
        captions.append(scene.caption)
    images.flush()
    return captions


def make_data(config: DataConfig, folder: Path, progress: Progress) -> None:
    """Draw the training scenes into `folder`: images.npy (scene, y, x, channel) uint8 and captions.txt, a line each.

    A folder that already holds as many scenes is left as it is. The captions are written last, by renaming, so a
    folder with captions is whole; a run that was cut short starts again, which takes about a minute.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / CAPTIONS).is_file() and len(load_captions(folder)) == config.scenes:
        return
    (folder / CAPTIONS).unlink(missing_ok=True)
    images = np.lib.format.open_memmap(folder / IMAGES, mode="w+", dtype=np.uint8, shape=(config.scenes, SIZE, SIZE, 3))
    images.flush()
    del images
    captions: list[str] = []
    for places, some in in_chunks(_draw, config.scenes, _CHUNK, config.workers, folder / IMAGES):
        captions += some
        progress.step("data", places.stop, config.scenes, {})
    write_text(folder / CAPTIONS, "\n".join(captions) + "\n")


def load_images(folder: Path) -> npt.NDArray[np.uint8]:
    """Map the images (scene, y, x, channel) without reading them all.

    Raises:
        TrainingError: The stage "data" has not run.
    """
    if not (folder / CAPTIONS).is_file():
        raise TrainingError(f"{folder} holds no training scenes; run the stage 'data' first")
    return np.load(folder / IMAGES, mmap_mode="r")  # type: ignore[no-any-return]


def load_captions(folder: Path) -> list[str]:
    """Read the captions, one per scene."""
    return (folder / CAPTIONS).read_text(encoding="utf-8").splitlines()


def left_out(caption: str, chance: float, generator: torch.Generator) -> str:
    """Leave each word of a caption out with the given chance, so that every subset of a caption becomes familiar."""
    words = split_words(caption)
    kept = torch.rand(len(words), generator=generator) >= chance
    text = " ".join(word for word, keep in zip(words, kept.tolist(), strict=True) if keep)
    return text.replace(" ,", ",")


def varied(
    captions: Sequence[str], *, empty: float, drop_captions: float, drop_words: float, generator: torch.Generator
) -> list[str]:
    """Give the captions as one step sees them: some empty, some with words left out, the others as they are."""
    draws = torch.rand(len(captions), 2, generator=generator).tolist()
    texts = []
    for caption, (first, second) in zip(captions, draws, strict=True):
        if first < empty:
            texts.append("")
        elif second < drop_captions:
            texts.append(left_out(caption, drop_words, generator))
        else:
            texts.append(caption)
    return texts


def told_captions(
    captions: Sequence[str], places: Sequence[int], settings: Captioned, generator: torch.Generator
) -> list[str]:
    """The captions at some places as a denoiser is told them in one step."""
    return varied(
        [captions[place] for place in places],
        empty=settings.empty,
        drop_captions=settings.drop_captions,
        drop_words=settings.drop_words,
        generator=generator,
    )


def check_lengths(captions: Sequence[str], tokenizer: Any, limit: int, setting: str) -> None:
    """Raise a `TrainingError` if a caption has more tokens than a setting allows."""
    longest = max(len(row) for row in tokenizer(captions).input_ids)
    if longest > limit:
        raise TrainingError(f"{setting} is {limit}, but a caption has {longest} tokens; raise it")


def token_numbers(tokenizer: Any, texts: Sequence[str], length: int) -> torch.Tensor:
    """Tokenise texts to (text, token), padded with the end token and cut to `length`."""
    rows = tokenizer(list(texts), padding="max_length", truncation=True, max_length=length).input_ids
    return torch.tensor(rows, dtype=torch.long)
