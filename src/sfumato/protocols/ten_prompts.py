"""Ten prompts with the importance of each word as people judged it (Gupta and Kanoria 2024, sections 4 and 5).

Ten prompts by one judge are a protocol, not a benchmark: the intervals are wide. The printed figures were audited.
Every RMSE that the source prints equals the length of the first three errors, not divided by their number and without
a fourth word (``rmse(variant="paper")``); and one row of printed ranks cannot be: 4, 2, 3 for three words.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sfumato.errors import OptionError
from sfumato.explain import explain
from sfumato.metrics import bootstrap, ranks_aligned, rmse
from sfumato.models.model import Model
from sfumato.progress import Progress, silent
from sfumato.request import Request


@dataclass(frozen=True)
class Judged:
    """One prompt with what people and the source's Shapley values made of it.

    Attributes:
        prompt: The text.
        truth: Share of each word, as people judged it; they sum to 1.
        squared_errors: Of each word's share, as printed.
        printed_rmse: As printed.
    """

    prompt: str
    truth: tuple[float, ...]
    squared_errors: tuple[float, ...]
    printed_rmse: float


PROMPTS = (
    Judged("a flower lamp", (0.1, 0.4, 0.5), (0.0004, 0.0025, 0.0009), 0.06),
    Judged("a lamp with flowers", (0.02, 0.5, 0.08, 0.4), (0.0361, 0.01, 0.0169, 0.0484), 0.25),
    Judged("a dog wearing hat", (0.05, 0.45, 0.2, 0.3), (0.0036, 0.0025, 0.0009, 0.0016), 0.08),
    Judged("a Spanish flag", (0.05, 0.4, 0.55), (0.0441, 0.0064, 0.0169), 0.26),
    Judged("books and coffee", (0.5, 0.1, 0.4), (0.0009, 0.0001, 0.0004), 0.04),
    Judged("Girls watching movies", (0.35, 0.25, 0.4), (0.0001, 0.0036, 0.0025), 0.08),
    Judged("a cat's house", (0.05, 0.45, 0.5), (0.0064, 0.0196, 0.0484), 0.27),
    Judged("a map without land", (0.05, 0.4, 0.25, 0.3), (0.0001, 0.0784, 0.0025, 0.0484), 0.28),
    Judged("ancient egyptian airpods", (0.15, 0.45, 0.4), (0.0961, 0.0049, 0.0576), 0.40),
    Judged("astronauts at parties", (0.55, 0.05, 0.4), (0.0484, 0.0169, 0.1225), 0.43),
)

PRINTED = {"ranks aligned": 0.64, "RMSE": 0.2161}
"""Averages that the source prints, for Stable Diffusion and CLIP."""


@dataclass(frozen=True)
class RankTable:
    """How the worths of a model's words agree with the judges.

    Attributes:
        model: Name of the model.
        method: Whose worths.
        prompts: One row per prompt: shares, ranks aligned, RMSE in both variants.
    """

    model: str
    method: str
    prompts: tuple[dict[str, Any], ...]

    @property
    def title(self) -> str:
        """One line for people."""
        return f"{self.method} on the ten prompts of Gupta and Kanoria 2024, images by {self.model}"

    def rows(self) -> list[dict[str, Any]]:
        """One row per prompt, then the mean with its 95% bootstrap interval."""
        rows = [
            {
                "prompt": row["prompt"],
                "shares": " ".join("-" if share is None else f"{share:.2f}" for share in row["shares"]),
                "truth": " ".join(f"{share:.2f}" for share in row["truth"]),
                **{name: _cell(row[name]) for name in ("ranks aligned", "RMSE", "RMSE (paper)")},
            }
            for row in self.prompts
        ]
        means = {
            name: str(bootstrap([float("nan") if row[name] is None else row[name] for row in self.prompts]))
            for name in ("ranks aligned", "RMSE", "RMSE (paper)")
        }
        return [*rows, {"prompt": "mean", "shares": "", "truth": ""} | means]

    def to_json(self) -> str:
        """Everything as JSON text."""
        return json.dumps(
            {"model": self.model, "method": self.method, "printed": PRINTED, "prompts": self.prompts}, indent=2
        )


METHODS = ("shapley", "lime", "word_gradients")
"""Methods that say what each word is worth."""


def rank_table(
    model: Model,
    method: str = "shapley",
    *,
    seed: int = 0,
    judged: Sequence[Judged] = PROMPTS,
    progress: Progress = silent,
    **options: Any,
) -> RankTable:
    """Explain the prompts and compare the shares of their words with the judges'.

    Args:
        model: Any text-to-image model.
        method: One of ``METHODS``.
        seed: Prompt i starts from seed ``seed + i``.
        judged: The prompts.
        progress: Told about every prompt.
        options: Of the method.

    Raises:
        OptionError: The method says nothing of the worth of words.
    """
    if method not in METHODS:
        raise OptionError(f"{method} says nothing of the worth of words; choose from: {', '.join(METHODS)}")
    rows = []
    for number, one in enumerate(judged):
        progress("prompts", number, len(judged))
        found = explain(model, Request(one.prompt, seed=seed + number), method, progress=progress, **options)
        shares = found.tree[f"{method}/word_importance"].to_dataset()["share"].values.tolist()
        known = all(math.isfinite(share) for share in shares)
        rows.append(
            {
                "prompt": one.prompt,
                "shares": [share if math.isfinite(share) else None for share in shares],
                "truth": list(one.truth),
                "ranks aligned": ranks_aligned(one.truth, shares) if known else None,
                "RMSE": rmse(one.truth, shares) if known else None,
                "RMSE (paper)": rmse(one.truth, shares, "paper") if known else None,
            }
        )
    progress("prompts", len(judged), len(judged))
    return RankTable(model.source.name, method, tuple(rows))


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
