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
import math
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from sfumato.errors import RequestError
from sfumato.explain import explain
from sfumato.games.players import players_of
from sfumato.metrics import bootstrap, find_metric, ranks
from sfumato.metrics.registry import checked_metrics
from sfumato.models.model import Model
from sfumato.options import parse_options
from sfumato.progress import Progress
from sfumato.registry import Method, find
from sfumato.request import CompletedRequest
from sfumato.runs.finding import Finding
from sfumato.runs.prompts import Row
from sfumato.runs.task import Captions, Cost, Item, ModelFacts, Record, Records, task
from sfumato.tasks.explain import check_method, costs_of

SHARES = "shares"
"""The column of a file of prompts that holds the judged share of each word."""

EVEN = "uninformative baseline (an even share)"
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
    """Read a prompt with its truth, as a line of a text file has them.

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

_KNOWN = {one.prompt: one for one in PROMPTS}

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
        measure: The name of a metric of shares.
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
class RankAgreementOptions:
    """Options of the task."""

    method: Literal["shapley", "lime", "word_gradients"] = field(
        default="shapley", metadata={"help": "A method that gives every word a share."}
    )
    option: tuple[str, ...] = field(
        default=(),
        metadata={
            "help": "NAME=VALUE: an option of the method, such as similarity_model=FOLDER (a CLIP of photographs); may "
            "be repeated. See: sfumato methods NAME."
        },
    )
    metrics: tuple[str, ...] = field(
        default=(), metadata={"help": "A metric of shares, such as RMSE; may be repeated. By default all of them."}
    )

    def __post_init__(self) -> None:
        """Complete and check the metrics."""
        object.__setattr__(self, "metrics", checked_metrics(self.metrics, "shares"))


def paper_prompts(count: int) -> list[dict[str, str]]:
    """The first prompts of the paper, as rows with the shares of their words.

    Raises:
        RequestError: The paper has fewer.
    """
    if count > len(PROMPTS):
        raise RequestError(
            f"{PAPER} has {len(PROMPTS)} prompts, and {count} are asked for; give a file with prompts of your own"
        )
    return [{"prompt": one.prompt, SHARES: " ".join(f"{share:g}" for share in one.truth)} for one in PROMPTS[:count]]


def _costs(model: Model, request: CompletedRequest, items: int, options: RankAgreementOptions) -> list[str]:
    return costs_of(model, request, [_configured(options)], f"each of {items:,} images")


@task(
    "rank_agreement",
    question="Do the words that a method calls important rank as people rank them?",
    options=RankAgreementOptions,
    cost=Cost(
        "an explanation by the method for each image (shapley: a generation for each subset of its words)", _costs
    ),
    needs=("words",),
    version=2,
    prompts=Captions(paper_prompts, usual=len(PROMPTS), named="the paper's prompts"),
)
class RankAgreement:
    """Shares of words next to people's judgement, an uninformative baseline and the printed figures.

    The embedded model has not learned the words of the ten prompts: take a model and a CLIP of photographs. A row of a
    file has the shares in the column "shares", or behind the prompt as in "a flower lamp | 0.1 0.4 0.5".
    """

    def plan(self, facts: ModelFacts, rows: Iterable[Row], options: RankAgreementOptions) -> Iterator[Item | Row]:
        """An item for each image of each row with readable shares."""
        chosen, given = _configured(options)
        check_method(chosen, facts)
        chosen.configure(given)
        return _items(rows)

    def measure(
        self, model: Model, items: Sequence[Item], options: RankAgreementOptions, progress: Progress
    ) -> Sequence[Record]:
        """Explain each prompt and compare the shares of its words with the judged ones."""
        chosen, given = _configured(options)
        judged = [judged_of(one) for one in items]
        players = [_players(model, one, chosen.configure(given).players) for one in judged]
        records = []
        for item, one, names in zip(items, judged, players, strict=True):
            found = explain(model, item.request, chosen.name, progress=progress, **given)
            shares = found.tree[f"{chosen.name}/word_importance"].to_dataset()["share"].values.tolist()
            records.append(_record(one, names, shares, options.metrics))
        return records

    def conclude(self, records: Records, options: RankAgreementOptions, about: Mapping[str, Any]) -> Finding:
        """The means of the measures over prompts; the items hold the shares of every prompt."""
        chosen, given = _configured(options)
        seeds = array("Q")

        def measured() -> Iterator[tuple[Judged, Mapping[str, Any]]]:
            for item, record in records:
                seeds.append(item.request.seed)
                yield judged_of(item), record.values

        means = means_of(chosen.name, measured(), options.metrics)
        first = next(iter(records))[0].request
        about = {
            **about,
            "seeds": [min(seeds), max(seeds)],
            "steps": first.steps,
            "guidance": first.guidance,
            "scheduler": first.scheduler,
            "options": asdict(chosen.configure(given)),
        }
        sentence = _sentence(means, len(records), options.metrics)
        return Finding("rank_agreement", "", None, sentence, [asdict(one) for one in means], None, about)


def judged_of(item: Item) -> Judged:
    """The prompt of an item with its truth, and what the paper found where it is the paper's."""
    known = _KNOWN.get(item.request.prompt)
    truth = tuple(item.about["truth"])
    return known if known is not None and known.truth == truth else Judged(item.request.prompt, truth)


def _configured(options: RankAgreementOptions) -> tuple[Method, dict[str, Any]]:
    """The method, and its options as they were given."""
    chosen = find(options.method)
    return chosen, parse_options(chosen, options.option)


def _items(rows: Iterable[Row]) -> Iterator[Item | Row]:
    for row in rows:
        if row.request is None:
            continue
        try:
            judged = _judged_in(row.request.prompt, row.kept.get(SHARES))
        except RequestError as error:
            yield row.refused(str(error))
            continue
        for number in range(row.request.images):
            request = row.request.of_image(number).with_(prompt=judged.prompt)
            yield Item(request, {"truth": list(judged.truth)}, row)


def _judged_in(prompt: str, shares: Any) -> Judged:
    """A prompt with its truth, from its own column or from behind the prompt."""
    return judged_from(prompt if shares in (None, "") else f"{prompt} | {shares}")


def _players(model: Model, one: Judged, group: Any) -> list[str]:
    """The words that get shares; a prompt that has not as many shares is refused before any image is made."""
    players = [player.name for player in players_of(model.tokens(one.prompt), group)]
    if len(players) != len(one.truth):
        raise RequestError(
            f"{one.prompt!r} has {len(one.truth)} shares and {len(players)} words as {model.source.name} reads it "
            f"({', '.join(players)}); give one share for each"
        )
    return players


def _record(one: Judged, players: Sequence[str], shares: Sequence[float], metrics: Sequence[str]) -> Record:
    """The metrics of a prompt, and a row for each of its words."""
    measures = _measured(one.truth, shares, metrics)
    rows: list[dict[str, Any]] = [
        {"word": word, "share": share if math.isfinite(share) else None, "judged share": truth, **measures}
        for word, share, truth in zip(players, shares, one.truth, strict=True)
    ]
    return Record(measures, rows=rows)


def _measured(truth: Sequence[float], shares: Sequence[float], metrics: Sequence[str]) -> dict[str, float | None]:
    """The metrics of one prompt; None where one is not defined, as all are where the shares are not known."""
    if not all(math.isfinite(share) for share in shares):
        return dict.fromkeys(metrics)
    found = {name: find_metric(name).function(shares, truth) for name in metrics}
    return {name: value if math.isfinite(value) else None for name, value in found.items()}


def means_of(
    method: str, measured: Iterable[tuple[Judged, Mapping[str, float | None]]], metrics: Sequence[str]
) -> tuple[Mean, ...]:
    """The means of a method, of an even share, and of what the paper printed where the prompts are the paper's.

    Args:
        method: Whose shares.
        measured: The prompts, each with the metrics of the method.
        metrics: Their names.
    """
    own, even, implied, aligned = (_Means(metrics) for _ in range(4))
    prompts: list[str] = []
    count = 0
    for one, values in measured:
        count += 1
        own.add(one.prompt, values)
        even.add(one.prompt, _measured(one.truth, [1 / len(one.truth)] * len(one.truth), metrics))
        if one.published is not None:
            prompts.append(one.prompt)
            implied.add(one.prompt, _measured(one.truth, implied_shares(one.truth, one.published), metrics))
            share = float((ranks(one.truth) == one.published.ranks).mean())
            aligned.add(one.prompt, {"ranks aligned": share})
    found = [*own.of(method), *even.of(EVEN)]
    if len(prompts) == count:
        found += implied.of("the paper, from its printed errors")
        found += aligned.of("the paper, from its printed ranks")
    if prompts == [one.prompt for one in PROMPTS] and len(prompts) == count:
        printed = {metric: value for metric, value in PRINTED.items() if metric in metrics}
        found += [Mean("the paper, averages as printed", metric, value) for metric, value in printed.items()]
    return tuple(found)


class _Means:
    """The metrics of prompts as they pass by; a bootstrap interval rests on all of them, so they stay in memory."""

    def __init__(self, metrics: Sequence[str]) -> None:
        self._metrics = metrics
        self._values: dict[str, array[float]] = {}
        self._prompts: list[str] = []

    def add(self, prompt: str, measures: Mapping[str, Any]) -> None:
        """Take the measures of one image of a prompt."""
        self._prompts.append(prompt)
        for measure in (name for name in self._metrics if name in measures):
            value = measures[measure]
            self._values.setdefault(measure, array("d")).append(math.nan if value is None else value)

    def of(self, name: str) -> list[Mean]:
        """One mean for each measure, with its interval over prompts."""
        means = []
        for measure, values in self._values.items():
            one = bootstrap(values, groups=self._prompts)
            found = Mean(name, measure, one.mean, one.low, one.high, one.n)
            means.append(found if one.n else Mean(name, measure, None, n=0))
        return means


def _sentence(means: Sequence[Mean], images: int, metrics: Sequence[str]) -> str:
    """The metrics of the method next to the uninformative baseline."""
    found = {(one.of, one.measure): one.mean for one in means}
    own = means[0].of

    def numbers(of: str) -> str:
        values = {name: found[of, name] for name in metrics}
        return ", ".join(f"{name} {'unknown' if one is None else f'{one:.3f}'}" for name, one in values.items())

    return f"{own} on {images:,} images: {numbers(own)}; an even share: {numbers(EVEN)}."
