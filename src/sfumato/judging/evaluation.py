"""All checks of explanations together: which ones are made, what they cost, and what they give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sfumato.errors import OptionError, SfumatoError
from sfumato.judging.checks import CheckResult
from sfumato.judging.games import GAMES, POINTS
from sfumato.judging.judge import CHECK, MEMORY, Verdict, judge
from sfumato.judging.randomising import STAGES
from sfumato.judging.steadiness import REPEATS, STRENGTH
from sfumato.judging.trust import CHECKS, Trust, cost, settled, trust
from sfumato.models.model import Model
from sfumato.option_values import COUNT, FEW, INNER_SHARE, MEGABYTES, STEPS
from sfumato.progress import Progress, silent
from sfumato.results.explanation import Explanation

ALL = (*CHECKS, CHECK)


@dataclass(frozen=True)
class CheckOptions:
    """Which checks, and what they take; without any, all that fit.

    Raises:
        OptionError: There is no such check.
    """

    check: tuple[str, ...] = field(
        default=(), metadata=FEW | {"help": f"{', '.join(ALL)}; may be repeated. By default all that fit."}
    )
    repeats: int = field(
        default=REPEATS, metadata=COUNT | {"help": "Number of additional seeds and of perturbations of the noise."}
    )
    stages: int = field(
        default=STAGES, metadata=COUNT | {"help": "Number of stages of cascading parameter randomisation."}
    )
    strength: float = field(
        default=STRENGTH, metadata=INNER_SHARE | {"help": "Of a perturbation of the noise, between 0 and 1."}
    )
    game: tuple[str, ...] = field(
        default=(), metadata=FEW | {"help": "deletion or insertion; may be repeated. By default both."}
    )
    measure: tuple[str, ...] = field(
        default=(),
        metadata=FEW
        | {"help": "A distance: local_ssim, features or clip; may be repeated. By default local_ssim and features."},
    )
    at: tuple[int, ...] = field(
        default=(), metadata=STEPS | {"help": "Steps such as 5,10,15. By default those of the maps."}
    )
    points: int = field(
        default=POINTS, metadata=COUNT | {"help": "Number of steps of the deletion and insertion curves."}
    )
    clip: str | None = field(
        default=None,
        metadata={
            "disk": "model",
            "help": "Folder or hub id of a CLIP, for features, clip and the score with the prompt.",
        },
    )
    memory: float = field(
        default=MEMORY, metadata=MEGABYTES | {"help": "Most memory for the feature maps of a batch, in MB."}
    )

    def __post_init__(self) -> None:
        """Refuse checks that do not exist."""
        if unknown := [name for name in self.check if name not in ALL]:
            raise OptionError(f"there is no check {unknown[0]!r}; choose from: {', '.join(ALL)}")

    @property
    def trusted(self) -> list[str] | None:
        """The checks of whole explanations; None for all that fit."""
        return [name for name in dict.fromkeys(self.check) if name != CHECK] if self.check else None

    @property
    def numbers(self) -> dict[str, Any]:
        """What the checks of whole explanations take."""
        return {"repeats": self.repeats, "stages": self.stages, "strength": self.strength}

    @property
    def games_are_optional(self) -> bool:
        """Whether the games are left out where they cannot be played: nothing that concerns them was given."""
        own = (self.check, self.game, self.measure, self.at, self.points, self.clip, self.memory)
        return own == ((), (), (), (), POINTS, None, MEMORY)


@dataclass(frozen=True)
class Evaluation:
    """What the checks gave.

    Attributes:
        trust: Of each explanation; empty where only the games were chosen.
        games: Of all explanations together; None where they were not played.
        left_out: Checks that do not fit, and maps that could not play, each with the reason.
    """

    trust: tuple[Trust, ...]
    games: Verdict | None
    left_out: tuple[str, ...]

    def measured(self) -> list[CheckResult]:
        """Every number: of each explanation in turn, then of the games."""
        return [one for part in self.trust for one in part.measured] + (self.games.measured() if self.games else [])


def costs(model: Model, explanations: Sequence[Explanation], options: CheckOptions) -> list[str]:
    """What the checks of each explanation cost, in words; the games are not counted.

    Raises:
        SfumatoError: An explanation cannot be checked, or not by a check that was asked for.
    """
    if options.trusted == []:
        return []
    found = []
    for one in explanations:
        made, _ = settled(model, one, options.trusted, **options.numbers)
        found.append(cost(one, model, made, options.repeats, options.stages))
    return found


def evaluate(
    model: Model, explanations: Sequence[Explanation], options: CheckOptions, progress: Progress = silent
) -> Evaluation:
    """Make the checks; the games come first, since they refuse the most.

    Args:
        model: The one that made the explanations.
        explanations: Of one image each.
        options: Which checks, and how.
        progress: Told about every image and game.

    Raises:
        OptionError: A number or a name is not possible.
        SfumatoError: What was asked for does not fit an explanation.
    """
    games: Verdict | None = None
    left_out: list[str] = []
    if not options.check or CHECK in options.check:
        try:
            games = judge(
                model,
                explanations,
                games=options.game or GAMES,  # type: ignore[arg-type]  # names are checked there
                distances=options.measure,
                at=options.at,
                points=options.points,
                clip=options.clip,
                memory=options.memory,
                progress=progress,
            )
        except SfumatoError as error:
            if not options.games_are_optional:
                raise
            left_out.append(f"{CHECK}: {error}")
    checked = options.trusted != []
    trusted = tuple(
        trust(model, one, options.trusted, progress=progress, **options.numbers) for one in explanations if checked
    )
    left_out += [line for one in trusted for line in one.left_out] + (list(games.skipped) if games else [])
    return Evaluation(trusted, games, tuple(left_out))
