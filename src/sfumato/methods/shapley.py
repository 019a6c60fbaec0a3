"""Shapley values of words: how much does each word add to the image? After Gupta and Kanoria 2024.

Players are the words of the prompt, their order kept; v(S) is the similarity between the image of the words in S and
the image of the whole prompt, same seed and starting noise. phi_i = sum over S without i of
|S|! (d-1-|S|)! / d! (v(S + i) - v(S)). The source leaves out the empty set; here v(empty) is the unconditional image,
so that the worths sum to v(all) - v(none).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sfumato.games.estimators import ESTIMATORS, plan
from sfumato.games.estimators.planning import Plan
from sfumato.methods.word_games import WordGameOptions, game_explanation, generations, play_words
from sfumato.models.model import Model
from sfumato.option_values import SEED
from sfumato.progress import Progress
from sfumato.registry import method
from sfumato.request import CompletedRequest
from sfumato.results.explanation import Explanation

KNOWN = tuple(name for name in ESTIMATORS if name != "lime")
"""Estimators of Shapley values; LIME's weights have a method of their own."""


@dataclass(frozen=True)
class ShapleyOptions(WordGameOptions):
    """Options of ``shapley``."""

    estimator: str | None = field(
        default=None,
        metadata={
            "choices": KNOWN,
            "help": "exact, permutation, monte-carlo, kernel, leverage or leave-one-out; by the number of words",
        },
    )
    draw: int = field(default=0, metadata=SEED | {"help": "seed of the coalitions that a sampling estimator draws"})

    def planned(self, players: int) -> Plan:
        """Which coalitions of so many players are evaluated."""
        return plan(players, estimator=self.estimator, budget=self.budget, seed=self.draw)


@method(
    "shapley",
    summary="How much does each word add to the image? Shapley values, from images of parts of the prompt",
    options=ShapleyOptions,
    needs=("words",),
    cost=lambda model, request, options: generations(model, request, options, options.planned),
    paper="Gupta and Kanoria 2024, Adapting Interpretability Techniques to Generative Image Diffusion Models",
    version=2,
)
def shapley(
    model: Model, requests: Sequence[CompletedRequest], options: ShapleyOptions, progress: Progress
) -> list[Explanation]:
    """Play the game of every request, one after another."""
    return [
        game_explanation("shapley", request, play_words(model, request, options, options.planned, progress), {})
        for request in requests
    ]
