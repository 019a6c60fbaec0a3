"""Which segments go with which words: CLIP compares words with what is left of the image when only segments show."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sfumato.errors import OptionError
from sfumato.segments.segment import Segment
from sfumato.similarity import Clip

NEUTRAL = 128
"""The grey that hides everything else."""

MARGIN = 3.0
"""Side of a crop, as a multiple of the longer side of what it shows: by measurement for ``studio/clip``, which knows
objects as parts of scenes. On true scenes 1.5 matches 42% of the phrases, 2.5 to 5 match 75 to 81%."""


@dataclass(frozen=True)
class Matches:
    """Segments against texts.

    Attributes:
        similarity: (segment, text) cosine between the CLIP directions of the masked crop of one segment and a text.
        best: (text, segment) the subset of segments that goes best with each text.
        score: (text,) its cosine.
        neutral: (segment,) true where no text goes better with a segment than no text does.
    """

    similarity: NDArray[np.float64]
    best: NDArray[np.bool_]
    score: NDArray[np.float64]
    neutral: NDArray[np.bool_]


def match(
    pixels: NDArray[np.uint8],
    segments: Sequence[Segment],
    texts: Sequence[str],
    clip: Clip,
    *,
    together: int = 2,
    margin: float = MARGIN,
) -> Matches:
    """Compare every subset of up to so many segments with every text.

    Args:
        pixels: (y, x, channel) the image.
        segments: Its parts; at least one.
        texts: Words or phrases; at least one.
        clip: The judge.
        together: Most segments of a subset.
        margin: Side of a crop, as a multiple of the longer side of what it shows.

    Raises:
        OptionError: There is nothing to compare.
    """
    if not segments or not texts:
        raise OptionError(f"there are {len(segments)} segments and {len(texts)} texts; matching needs one of each")
    subsets = [
        subset
        for size in range(1, min(together, len(segments)) + 1)
        for subset in itertools.combinations(range(len(segments)), size)
    ]
    crops = [
        masked_crop(pixels, np.any([segments[number].mask for number in subset], axis=0), margin) for subset in subsets
    ]
    pictures = clip.images(crops)
    directions = clip.texts([*texts, ""])
    cosines = (pictures.double() @ directions.double().T).cpu().numpy()  # (subset, text and the empty text)
    alone = cosines[: len(segments)]
    winners = cosines[:, :-1].argmax(0)
    best = np.zeros((len(texts), len(segments)), bool)
    for text, winner in enumerate(winners.tolist()):
        best[text, list(subsets[winner])] = True
    return Matches(
        similarity=alone[:, :-1],
        best=best,
        score=cosines[winners, np.arange(len(texts))],
        neutral=alone[:, :-1].max(1) <= alone[:, -1],
    )


def masked_crop(pixels: NDArray[np.uint8], mask: NDArray[np.bool_], margin: float = MARGIN) -> NDArray[np.uint8]:
    """A square around a mask with everything else in neutral grey: (side, side, channel).

    Raises:
        OptionError: The mask is empty.
    """
    if not mask.any():
        raise OptionError("the segment is empty, so there is nothing to show; leave it out")
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    side = max(8, round(margin * max(rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1)))
    top, left = (rows[0] + rows[-1] + 1 - side) // 2, (columns[0] + columns[-1] + 1 - side) // 2
    crop = np.full((side, side, 3), NEUTRAL, np.uint8)
    y = slice(max(0, top), min(mask.shape[0], top + side))
    x = slice(max(0, left), min(mask.shape[1], left + side))
    inner = crop[y.start - top : y.stop - top, x.start - left : x.stop - left]
    inner[mask[y, x]] = pixels[y, x][mask[y, x]]
    return crop
