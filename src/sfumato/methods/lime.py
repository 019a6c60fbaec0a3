"""LIME over words: a weighted linear surrogate of the image's similarity (Ribeiro et al. 2016).

The same coalitions as for Shapley values, weighted by how many words they keep, and a linear model of their values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from sfumato.games.estimators import default_estimator
from sfumato.games.estimators.planning import Plan
from sfumato.games.estimators.surrogate import WIDTH
from sfumato.games.estimators.surrogate import lime as lime_plan
from sfumato.methods.word_games import WordGameOptions, game_explanation, generations, play_words
from sfumato.models.model import Model
from sfumato.option_values import PENALTIES, SEED, WIDTHS
from sfumato.progress import Progress
from sfumato.registry import method
from sfumato.request import CompletedRequest
from sfumato.results.explanation import Explanation


@dataclass(frozen=True)
class LimeOptions(WordGameOptions):
    """Options of ``lime``."""

    width: float = field(
        default=WIDTH,
        metadata=WIDTHS | {"help": "of the kernel over the cosine distance of a coalition to the whole prompt"},
    )
    ridge: float = field(
        default=0.0, metadata=PENALTIES | {"help": "penalty on squared weights (the reference code takes 1)"}
    )
    draw: int = field(default=0, metadata=SEED | {"help": "seed of the coalitions, where not all are evaluated"})

    def planned(self, players: int) -> Plan:
        """Which coalitions of so many players are evaluated."""
        budget = default_estimator(players)[1] if self.budget is None else self.budget
        draw = np.random.default_rng(self.draw)
        return lime_plan(players, max(budget, 2), draw, width=self.width, ridge=self.ridge)


@method(
    "lime",
    summary="Which words does a linear model of the image's similarity rest on? LIME over words",
    options=LimeOptions,
    needs=("words",),
    cost=lambda model, request, options: generations(model, request, options, options.planned),
    paper="Ribeiro et al. 2016, arXiv 1602.04938; over prompts: Gupta and Kanoria 2024",
    version=2,
)
def lime(
    model: Model, requests: Sequence[CompletedRequest], options: LimeOptions, progress: Progress
) -> list[Explanation]:
    """Fit a surrogate to the game of every request, one after another."""
    play = partial(play_words, model, options=options, planned=options.planned, progress=progress)
    attrs = {"kernel_width": options.width, "ridge": options.ridge}
    return [game_explanation("lime", request, play(request), attrs) for request in requests]
