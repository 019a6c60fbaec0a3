"""Which timesteps a run visits: even ones (the scheduler's own), dense early, dense late, dense in a window, or a list.

Source: Park et al. 2024, "Explaining generative diffusion models via visual analysis", exponential sampling.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from sfumato.bounds import checked_int, shown
from sfumato.errors import RequestError

GAMMA = 60.0
MAX_STEPS = 1000
HIGHEST = 999_999
"""The highest timestep of a list; a model's own timesteps bound it further."""
COARSE = 6
"""Steps outside a window."""
EXPECTED = "expected early, late, early:GAMMA, late:GAMMA, window:HIGH-LOW, or timesteps such as 999,800,500,100"


def parse_schedule(given: object) -> str | tuple[int, ...] | None:
    """A schedule in the form that a request keeps: a name with its numbers, timesteps, or None for the scheduler's own.

    Args:
        given: As a user writes it; text may also list timesteps, with commas.

    Raises:
        RequestError: It is no schedule.
    """
    if given is None:
        return None
    if isinstance(given, str):
        if given == "uniform":
            return None
        text = given.strip().lower()
        if re.fullmatch(r"\d{1,6}(\s*,\s*\d{1,6})*", text, re.ASCII):
            return parse_schedule([int(number) for number in text.split(",")])
        if re.fullmatch(r"(early|late)(:\d{1,6}(\.\d{1,6})?)?", text):
            return text
        window = re.fullmatch(r"window:(\d{1,6})-(\d{1,6})", text)
        if window and int(window[1]) > int(window[2]):
            return text
    elif isinstance(given, Sequence) and not isinstance(given, bytes):
        if len(given) > MAX_STEPS:
            raise RequestError(f"schedule lists {len(given):,} timesteps; at most {MAX_STEPS:,} are accepted")
        found = [checked_int("a timestep of the schedule", one, 0, HIGHEST, RequestError) for one in given]
        return _checked(found, given)
    raise RequestError(f"schedule is {shown(given)}; {EXPECTED}")


def listed(schedule: str | tuple[int, ...], steps: int, trained: int) -> list[int]:
    """The timesteps of a schedule, falling.

    Args:
        schedule: From ``parse_schedule``.
        steps: How many.
        trained: How many timesteps the model was trained on.

    Raises:
        RequestError: The schedule has no so many timesteps, or goes beyond those of the model.
    """
    if isinstance(schedule, tuple):
        found = list(schedule)
    elif schedule.startswith("window"):
        high, _, low = schedule.removeprefix("window:").partition("-")
        found = _window(int(high), int(low), steps, trained)
    else:
        kind, _, gamma = schedule.partition(":")
        found = exponential(steps, trained, float(gamma or GAMMA), late=kind == "late")
    if found[0] >= trained:
        raise RequestError(f"schedule begins at timestep {found[0]}; this model has timesteps 0 to {trained - 1}")
    if any(one <= other for one, other in pairwise(found)):
        raise RequestError(f"schedule {schedule!r} has no {steps} different timesteps; take fewer steps or another one")
    return found


def exponential(steps: int, trained: int = 1000, gamma: float = GAMMA, *, late: bool) -> list[int]:
    """Timesteps whose distances grow exponentially from the end of the run (late) or from its beginning (early).

    With delta = trained^(1/(steps + gamma)) and a_i = int(delta^(i + 1 + gamma)), late is a_i falling, and early is the
    first timestep followed by trained - a_i without the last.

    Args:
        steps: How many.
        trained: How many timesteps the model was trained on.
        gamma: Smaller ones concentrate more.
        late: Dense at small timesteps, where details come; else at large ones.
    """
    delta = trained ** (1 / (steps + gamma))
    found = [int(delta ** (i + 1 + gamma)) for i in range(steps)]
    if late:
        return [min(one, trained - 1) for one in reversed(found)]
    return [trained - 1] + [trained - one for one in found[:-1]]


def _window(high: int, low: int, steps: int, trained: int) -> list[int]:
    """A few coarse steps before and after a window, all others inside it, evenly.

    A window may begin at the number of trained timesteps, as Park et al. 2024 count them (1000 to 800): at the first.
    """
    if steps < COARSE + 2:
        raise RequestError(f"a window needs {COARSE + 2} steps or more; steps is {steps}")
    if high > trained:
        raise RequestError(f"the window begins at timestep {high}; this model has timesteps 0 to {trained - 1}")
    high = min(high, trained - 1)
    outside = (trained - 1 - high) + low
    before = round(COARSE * (trained - 1 - high) / outside) if outside else 0
    after = COARSE - before
    first = [trained - 1 + (high - trained + 1) * place / before for place in range(before)]
    last = [low * (1 - place / (after + 1)) for place in range(1, after + 1)] if low else []
    dense = steps - len(first) - len(last)
    inside = [high + (low - high) * place / (dense - 1) for place in range(dense)]
    return [round(one) for one in (*first, *inside, *last)]


def _checked(numbers: Sequence[int], given: object) -> tuple[int, ...]:
    if not numbers:
        raise RequestError(f"schedule is empty; {EXPECTED}")
    if any(one <= other for one, other in pairwise(numbers)):
        raise RequestError(f"schedule is {shown(given)}; its timesteps must fall, each once, down to 0 at the lowest")
    return tuple(numbers)
