"""What a coalition of words is worth: how like the whole prompt's image the image of what is left of it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sfumato.caching.images import Generation, Generator
from sfumato.errors import ModelError
from sfumato.games.coalitions import Coalitions
from sfumato.games.players import Player, blanked, remaining
from sfumato.progress import Progress, silent
from sfumato.request import Request
from sfumato.similarity import Similarity

Drop = Literal["remove", "blank"]
DROPS: tuple[Drop, ...] = ("remove", "blank")


@dataclass
class PromptValue:
    """The value of coalitions of words: similarity of their image to the image of all, same seed, same starting noise.

    Without any word it is that of the unconditional image.

    Attributes:
        generator: Makes the images.
        request: Of one image.
        players: The words.
        similarity: The measure.
        drop: "remove" a missing word, or "blank" it by padding so that the other words keep their places.
        progress: Told about every call of the denoiser.
        images: What was generated, by coalition.
        texts: The prompts that it was generated from, by coalition.
    """

    generator: Generator
    request: Request
    players: Sequence[Player]
    similarity: Similarity
    drop: Drop = "remove"
    progress: Progress = silent
    images: dict[bytes, Generation] = field(default_factory=dict)
    texts: dict[bytes, str] = field(default_factory=dict)

    def __call__(self, coalitions: Coalitions) -> NDArray[np.float64]:
        """Values of coalitions (coalition, player): (coalition,)."""
        whole = np.ones((1, len(self.players)), bool)
        rows = np.concatenate([whole, coalitions])
        prompts = self._prompts(rows)
        made = self.generator([self.request.with_(prompt=prompt) for prompt in prompts], self.progress)
        for row, prompt, one in zip(rows, prompts, made, strict=True):
            self.images[row.tobytes()], self.texts[row.tobytes()] = one, prompt
        return self.similarity.scores(made[1:], made[0], self.generator.cache)

    def _prompts(self, rows: Coalitions) -> list[str]:
        prompt = self.request.prompt
        if self.drop == "remove":
            texts = remaining(prompt, self.players, rows)
        else:
            texts = blanked(prompt, self.players, rows, padding_text(self.generator.model.pipeline.tokenizer))
        # The whole prompt as it was written, and the unconditional one as the pipeline takes it.
        return [prompt if row.all() else text if row.any() else "" for row, text in zip(rows, texts, strict=True)]


def padding_text(tokenizer: object) -> str:
    """The text that a tokenizer reads as one padding token.

    Raises:
        ModelError: There is none.
    """
    text = str(getattr(tokenizer, "pad_token", None) or "")
    number = getattr(tokenizer, "pad_token_id", None)
    if not text or tokenizer(text, add_special_tokens=False).input_ids != [number]:  # type: ignore[operator]
        raise ModelError("this tokenizer has no text for its padding, so words cannot be blanked; take drop='remove'")
    return text
