"""What is known of every family without asking Sfumato: how its prompt is cut, and where text stands in attention."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.families.family import Family

GRID = (8, 12)
"""Height and width of a transformer's positions for an image of the tests."""

CLIP = {"red": [2], "cat": [3], ",": [4], "zebra": [6, 7, 8, 9, 10], "cat#2": [13], "table": [16]}
T5 = {"red": [1], "cat": [2], ",": [3], "zebra": [5, 6, 7, 8, 9, 10], "cat#2": [13], "table": [16]}
QWEN = T5 | {"zebra": [6, 7, 8, 9, 10]}
"""The space before a word that is spelt out is a token of no word."""
SANA = {word: [place + 1 for place in places] for word, places in QWEN.items()}
"""A start token, and what is left of the instructions."""
TWICE = {word: CLIP[word] + [77 + place for place in T5[word]] for word in CLIP}


@dataclass(frozen=True)
class Expected:
    """Facts about a family.

    Attributes:
        words: Places of words' tokens in the context.
        text: First key that is a token, counted from the front, and how many keys that stand for tokens follow.
        image: First query that is a position of the image.
        branches: Guidance branches in the order of their rows, or of their calls.
        sequential: Whether each branch is a call of its own.
        kinds: Of the attention that is mapped.
    """

    words: Mapping[str, list[int]] = field(default_factory=dict)
    text: tuple[int, int] = (0, 77)
    image: int = 0
    branches: tuple[str, ...] = ("unconditional", "conditional")
    sequential: bool = False
    kinds: frozenset[str] = frozenset({"cross"})


ONE = ("conditional",)
IN_TURN = ("conditional", "unconditional")
JOINT = frozenset({"joint"})
POSITIONS = GRID[0] * GRID[1]
BY_PIPELINE = {
    "StableDiffusionInstructPix2PixPipeline": Expected(CLIP, branches=("conditional", "image", "unconditional")),
    "LatentConsistencyModelPipeline": Expected(CLIP, branches=ONE),
    "StableDiffusion3Pipeline": Expected(TWICE, (POSITIONS, 109), kinds=JOINT),
    "StableDiffusion3Img2ImgPipeline": Expected(TWICE, (POSITIONS, 109), kinds=JOINT),
    "StableDiffusion3InpaintPipeline": Expected(TWICE, (POSITIONS, 109), kinds=JOINT),
    "FluxPipeline": Expected(T5, (0, 32), 32, ONE, kinds=JOINT),
    "FluxImg2ImgPipeline": Expected(T5, (0, 32), 32, ONE, kinds=JOINT),
    "FluxInpaintPipeline": Expected(T5, (0, 32), 32, ONE, kinds=JOINT),
    "ChromaPipeline": Expected(T5, (0, 32), 32, IN_TURN, True, JOINT),
    "AuraFlowPipeline": Expected(T5, (8, 32), 40, kinds=JOINT),
    "QwenImagePipeline": Expected(QWEN, (0, 22), 22, IN_TURN, True, JOINT),
    "PixArtAlphaPipeline": Expected(T5, (0, 32)),
    "PixArtSigmaPipeline": Expected(T5, (0, 32)),
    "HunyuanDiTPipeline": Expected(TWICE, (0, 333)),
    "SanaPipeline": Expected(SANA, (0, 32)),
    "KandinskyV22Pipeline": Expected(text=(0, 32), kinds=frozenset({"added"})),
    "KandinskyV22InpaintPipeline": Expected(text=(0, 32), kinds=frozenset({"added"})),
}
BY_NAME = {
    "Stable Diffusion, guidance off": Expected(CLIP, branches=ONE),
    "Flux, true guidance": Expected(T5, (0, 32), 32, IN_TURN, True, JOINT),
}


def expected(family: Family) -> Expected:
    """The facts about a family; those of Stable Diffusion where nothing else is said."""
    return BY_NAME.get(family.name) or BY_PIPELINE.get(family.pipeline) or Expected(CLIP)
