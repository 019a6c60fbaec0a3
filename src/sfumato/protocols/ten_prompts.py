"""Ten prompts with the importance of each word as people judged it (Gupta and Kanoria 2024, sections 4 and 5).

Ten prompts by one annotator are a protocol, not a benchmark: the intervals are wide. The printed figures were audited:

- Every printed RMSE equals the length of the first three errors, not divided by their number and without a fourth word
  (``rmse(variant="paper")``).
- The printed 64% of ranks aligned does not follow from the printed ranks, which give 55%. The shares that the printed
  errors imply give 64.2%. One row of printed ranks cannot be: 4, 2, 3 for three words.
- Section 5.1.3 prints 2.9584, 0 and 0 as the squared errors of "astronauts at parties". The scores next to them give
  0.0484, 0.0169 and 0.1225, as the table of section 5.1.2 has them.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from sfumato.errors import OptionError, RequestError
from sfumato.explain import explain
from sfumato.games.players import players_of
from sfumato.metrics import bootstrap, ranks, ranks_aligned, rmse
from sfumato.models.model import Model
from sfumato.progress import Progress, silent
from sfumato.registry import Method, find
from sfumato.request import Request

MEASURES = ("ranks aligned", "RMSE", "RMSE (paper)")
"""Share of ranks aligned; RMSE over all words; the paper's variant of it, which is larger."""

METHODS = ("shapley", "lime", "word_gradients")
"""Methods that give every word a share."""

LISTED = ("shares", "truth")
"""What a row has for every word."""

PAPER = "Gupta and Kanoria 2024"
ROUNDED = 0.005
"""How far shares with two decimals may be from a sum of 1."""


@dataclass(frozen=True)
class Published:
    """What the paper prints for the Shapley values of one prompt.

    Attributes:
        ranks: Of each word.
        squared_errors: Of each word's share.
        rmse: As printed.
    """

    ranks: tuple[int, ...]
    squared_errors: tuple[float, ...]
    rmse: float


@dataclass(frozen=True)
class Judged:
    """One prompt with the importance of its words as people judged it.

    Attributes:
        prompt: The text.
        truth: Share of each word; they sum to 1.
        published: What the paper found, of its own prompts.

    Raises:
        RequestError: The shares are not finite, negative, or do not sum to 1.
    """

    prompt: str
    truth: tuple[float, ...]
    published: Published | None = None

    def __post_init__(self) -> None:
        """Check the shares."""
        known = all(math.isfinite(share) and share >= 0 for share in self.truth)
        if not known or abs(sum(self.truth) - 1) > ROUNDED:
            listed = " ".join(f"{share:g}" for share in self.truth) or "none"
            raise RequestError(
                f"the shares of {self.prompt!r} are {listed}; expected one of each word, 0 or more, with the sum 1"
            )


def judged_from(line: str) -> Judged:
    """Read a prompt with its truth, as ``--prompts FILE`` has them.

    Raises:
        RequestError: The line is unreadable, or the shares do not sum to 1.

    Example:
        >>> judged_from("a flower lamp | 0.1 0.4 0.5").truth
        (0.1, 0.4, 0.5)
    """
    prompt, bar, written = line.rpartition("|")
    try:
        truth = tuple(float(share) for share in written.split())
    except ValueError:
        truth = ()
    if not bar or not prompt.strip() or not truth:
        raise RequestError(
            f"the line {line[:120]!r} is unreadable; expected a prompt and the share of each of its words, "
            "such as: a flower lamp | 0.1 0.4 0.5"
        )
    return Judged(prompt.strip(), truth)


PROMPTS = (
    Judged("a flower lamp", (0.1, 0.4, 0.5), Published((3, 2, 1), (0.0004, 0.0025, 0.0009), 0.06)),
    Judged(
        "a lamp with flowers",
        (0.02, 0.5, 0.08, 0.4),
        Published((3, 1, 2, 4), (0.0361, 0.01, 0.0169, 0.0484), 0.25),
    ),
    Judged(
        "a dog wearing hat",
        (0.05, 0.45, 0.2, 0.3),
        Published((4, 1, 3, 2), (0.0036, 0.0025, 0.0009, 0.0016), 0.08),
    ),
    Judged("a Spanish flag", (0.05, 0.4, 0.55), Published((4, 2, 3), (0.0441, 0.0064, 0.0169), 0.26)),
    Judged("books and coffee", (0.5, 0.1, 0.4), Published((1, 3, 2), (0.0009, 0.0001, 0.0004), 0.04)),
    Judged("Girls watching movies", (0.35, 0.25, 0.4), Published((2, 3, 1), (0.0001, 0.0036, 0.0025), 0.08)),
    Judged("a cat's house", (0.05, 0.45, 0.5), Published((3, 1, 2), (0.0064, 0.0196, 0.0484), 0.27)),
    Judged(
        "a map without land",
        (0.05, 0.4, 0.25, 0.3),
        Published((3, 1, 2, 4), (0.0001, 0.0784, 0.0025, 0.0484), 0.28),
    ),
    Judged("ancient egyptian airpods", (0.15, 0.45, 0.4), Published((1, 2, 3), (0.0961, 0.0049, 0.0576), 0.40)),
    Judged("astronauts at parties", (0.55, 0.05, 0.4), Published((1, 2, 3), (0.0484, 0.0169, 0.1225), 0.43)),
)

PRINTED = {"ranks aligned": 0.64, "RMSE (paper)": 0.2161}
"""Averages that the paper prints, for Stable Diffusion and CLIP."""


def implied_shares(truth: Sequence[float], published: Published) -> tuple[float, ...]:
    """The shares that the printed squared errors imply: the signs of the errors that give shares of 0 or more, sum 1.

    Where several do, those whose ranks agree most with the printed ranks.
    """
    errors = np.sqrt(published.squared_errors)
    found = [
        np.round(truth + signs * errors, 6)  # so that shares that are equal tie
        for signs in map(np.array, itertools.product((1, -1), repeat=len(errors)))
    ]
    possible = [shares for shares in found if shares.min() >= 0 and abs(shares.sum() - 1) <= ROUNDED]
    best = max(possible, key=lambda shares: int((ranks(shares) == published.ranks).sum()))
    return tuple(best.tolist())


@dataclass(frozen=True)
class Mean:
    """A mean over prompts with its 95% bootstrap interval.

    Attributes:
        of: Whose shares.
        measure: One of ``MEASURES``.
        mean: None where no prompt has the measure.
        low: Lower end of the interval; None where there is none, as for a mean that was only printed.
        high: Upper end.
        n: Prompts behind the interval.
    """

    of: str
    measure: str
    mean: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = None


@dataclass(frozen=True)
class RankTable:
    """How the shares of a model's words agree with people's judgement.

    Attributes:
        model: Name of the model.
        method: Whose shares.
        prompts: One row per prompt: shares, truth and the measures.
        means: Of the method, of the uninformative baseline, and of the paper.
        about: What the numbers depend on: seeds, steps, guidance, options.
    """

    model: str
    method: str
    prompts: tuple[dict[str, Any], ...]
    means: tuple[Mean, ...]
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """One line for people."""
        papers = [row["prompt"] for row in self.prompts] == [one.prompt for one in PROMPTS]
        several = f"{len(self.prompts)} prompt{'s' if len(self.prompts) != 1 else ''}"
        whose = f"the ten prompts of {PAPER}" if papers else several
        return f"{self.method} on {whose}, images by {self.model}"

    def rows(self) -> list[dict[str, Any]]:
        """One row per prompt."""
        return [
            row | {name: " ".join("-" if one is None else f"{one:.2f}" for one in row[name]) for name in LISTED}
            for row in self.prompts
        ]

    def mean_rows(self) -> list[dict[str, Any]]:
        """One row per mean."""
        return [asdict(one) for one in self.means]

    def to_json(self) -> str:
        """Everything as JSON text."""
        found = {"model": self.model, "method": self.method, "about": dict(self.about), "prompts": self.prompts}
        return json.dumps(found | {"means": self.mean_rows()}, indent=2)


def importance_method(name: str) -> Method:
    """A method that gives every word a share.

    Raises:
        OptionError: It is none.
    """
    if name not in METHODS:
        raise OptionError(f"{name} gives words no share; choose from: {', '.join(METHODS)}")
    return find(name)


def rank_table(
    model: Model,
    method: str = "shapley",
    *,
    seed: int = 0,
    steps: int | None = None,
    guidance: float | None = None,
    judged: Sequence[Judged] = PROMPTS,
    progress: Progress = silent,
    **options: Any,
) -> RankTable:
    """Explain the prompts and compare the shares of their words with people's judgement.

    Args:
        model: Any text-to-image model.
        method: One of ``METHODS``.
        seed: Prompt i starts from seed ``seed + i``.
        steps: Denoising steps; None for the model's own.
        guidance: Guidance scale; None for the model's own.
        judged: The prompts.
        progress: Called with every prompt.
        options: Of the method.

    Raises:
        OptionError: The method gives words no share.
        RequestError: There is no prompt, or a prompt has not as many words as shares.
    """
    chosen = importance_method(method)
    configured = chosen.configure(options)
    chosen.check(model)
    if not judged:
        raise RequestError("there is no prompt to explain; give one or more")
    for one in judged:
        _check_words(model, one, configured.players)
    rows = []
    for number, one in enumerate(judged):
        progress("prompts", number, len(judged))
        request = Request(one.prompt, seed=seed + number, steps=steps, guidance=guidance)
        found = explain(model, request, method, progress=progress, **options)
        shares = found.tree[f"{method}/word_importance"].to_dataset()["share"].values.tolist()
        rows.append(
            {
                "prompt": one.prompt,
                "shares": [share if math.isfinite(share) else None for share in shares],
                "truth": list(one.truth),
                **_measured(one.truth, shares),
            }
        )
    progress("prompts", len(judged), len(judged))
    completed = model.complete(Request(judged[0].prompt, seed=seed, steps=steps, guidance=guidance))
    about = {
        "seeds": [seed, seed + len(judged) - 1],
        "steps": completed.steps,
        "guidance": completed.guidance,
        "scheduler": completed.scheduler,
        "options": asdict(configured),
    }
    return RankTable(model.source.name, method, tuple(rows), means_of(method, rows, judged), about)


def _check_words(model: Model, one: Judged, group: Any) -> None:
    """Refuse a prompt whose shares are not those of its words, before any image is made."""
    players = [player.name for player in players_of(model.tokens(one.prompt), group)]
    if len(players) != len(one.truth):
        raise RequestError(
            f"{one.prompt!r} has {len(one.truth)} shares and {len(players)} words as {model.source.name} reads it "
            f"({', '.join(players)}); give one share for each"
        )


def _measured(truth: Sequence[float], shares: Sequence[float]) -> dict[str, float | None]:
    """The measures of one prompt; None where the shares are not known."""
    if not all(math.isfinite(share) for share in shares):
        return dict.fromkeys(MEASURES)
    found = (ranks_aligned(truth, shares), rmse(truth, shares), rmse(truth, shares, "paper"))
    return dict(zip(MEASURES, found, strict=True))


def means_of(method: str, rows: Sequence[Mapping[str, Any]], judged: Sequence[Judged]) -> tuple[Mean, ...]:
    """The means of a method, of an even share, and of what the paper printed where the prompts are the paper's.

    Args:
        method: Whose shares.
        rows: The measures of each prompt.
        judged: The prompts.
    """
    even = [_measured(one.truth, [1 / len(one.truth)] * len(one.truth)) for one in judged]
    found = [*_means(method, rows), *_means("uninformative baseline (an even share)", even)]
    known = [(one.truth, one.published) for one in judged if one.published is not None]
    if len(known) == len(judged):
        implied = [_measured(truth, implied_shares(truth, published)) for truth, published in known]
        aligned = [{"ranks aligned": float((ranks(truth) == printed.ranks).mean())} for truth, printed in known]
        found += _means("the paper, from its printed errors", implied)
        found += _means("the paper, from its printed ranks", aligned)
    if tuple(judged) == PROMPTS:
        found += [Mean("the paper, averages as printed", measure, value) for measure, value in PRINTED.items()]
    return tuple(found)


def _means(of: str, rows: Sequence[Mapping[str, float | None]]) -> list[Mean]:
    """One mean for each measure that the rows have."""
    means = []
    for measure in (name for name in MEASURES if name in rows[0]):
        one = bootstrap([math.nan if (value := row[measure]) is None else value for row in rows])
        found = Mean(of, measure, one.mean, one.low, one.high, one.n)
        means.append(found if one.n else Mean(of, measure, None, n=0))
    return means
