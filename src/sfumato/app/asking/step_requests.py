"""What the tab Steps asks for: a request under one or two schedules, which of its steps, and by which methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from sfumato.app.asking.inputs import MOST_TEXT, decimal, number, request_field
from sfumato.app.asking.links import Asked
from sfumato.errors import ModelError, OptionError, RequestError
from sfumato.inputs.schedule import listed
from sfumato.models.model import Model
from sfumato.models.schedulers import schedule_of
from sfumato.registry import find
from sfumato.request import CompletedRequest, Request

STEPS = 12
"""Of a run, until somebody says otherwise: few, so that the first answer comes soon."""
LAST = 999
"""The first timestep of a run: noise alone."""
MOST_AT = 8
MOST_MASKS = 1000
SAMPLES = 120
"""Coalitions of superpixels for LIME."""
LED = 16
"""Most steps at which relevance is followed, beside those that were chosen."""
KINDS = ("uniform", "early", "late", "window")
BASELINES = ("gradient", "integrated_gradients", "attention", "lime")
ASKABLE = ("df_rise", "df_cam", "relevance", *BASELINES)
START: dict[str, Any] = {
    "schedule": "uniform",
    "other": "",
    "high": "600",
    "low": "300",
    "at": [3, 6, 9],
    "methods": ["df_rise", "df_cam", "relevance"],
    "masks": "48",
    "until": "0.1",
    "masking": "grid",
}
"""What the form holds at first."""
TEXTS = tuple(name for name, value in START.items() if isinstance(value, str))
LINKED = "look"
"""The part of a link that says the prompt, and that it is for this tab."""


@dataclass(frozen=True)
class StepsAsked:
    """What was asked for, as text of the form where it is text there.

    Attributes:
        base: Model, prompt, seed and number of steps.
        schedule: One of `KINDS`.
        other: Likewise, to compare with; "" for none.
        high: The first timestep of a window.
        low: Its last one.
        at: Steps to look at, from 0.
        methods: Some of `ASKABLE`.
        masks: Most masks of DF-RISE.
        until: The share of the map's range at which its error is small enough.
        masking: "grid" or "iid".
    """

    base: Asked
    schedule: str = "uniform"
    other: str = ""
    high: str = ""
    low: str = ""
    at: tuple[int, ...] = ()
    methods: tuple[str, ...] = ()
    masks: str = ""
    until: str = ""
    masking: str = "grid"

    @classmethod
    def of(cls, base: Asked, chosen: Any) -> StepsAsked:
        """From the fields and from what the form's script sent, which may be anything."""
        given: Mapping[str, Any] = START | (dict(chosen) if isinstance(chosen, Mapping) else {})
        text = {name: str(given[name])[:40] for name in TEXTS}
        at, methods = given["at"], given["methods"]
        steps = [one for one in at if type(one) is int] if isinstance(at, Sequence) else []
        names = [one for one in ASKABLE if one in methods] if isinstance(methods, Sequence) else []
        return cls(base, at=tuple(sorted(set(steps))), methods=tuple(names), **text)

    @classmethod
    def from_query(cls, query: Mapping[str, str], model: str) -> StepsAsked:
        """What a link asks for; what it does not say is as in the form at first, and checked as the form is."""
        given = {name: str(query[name])[:MOST_TEXT] for name in ("model", "seed") if name in query}
        base = Asked(
            **({"model": model} | given),
            prompt=str(query.get(LINKED, ""))[:MOST_TEXT],
            steps=str(query.get("count", STEPS))[:40],
        )
        chosen: dict[str, Any] = {name: str(query[name]) for name in TEXTS if name in query}
        if "at" in query:
            chosen["at"] = [int(one) for one in str(query["at"])[:MOST_TEXT].split(",") if one.strip().isdecimal()]
        if "ask" in query:
            chosen["methods"] = str(query["ask"])[:MOST_TEXT].split(",")
        return cls.of(base, chosen)

    @property
    def chosen(self) -> dict[str, Any]:
        """What the form holds, as ``of`` takes it."""
        return {name: getattr(self, name) for name in TEXTS} | {"at": list(self.at), "methods": list(self.methods)}

    @property
    def link(self) -> str:
        """The query string that says the same; what is as at first is left out."""
        said = {LINKED: self.base.prompt, "model": self.base.model, "seed": self.base.seed, "count": self.base.steps}
        said |= {name: getattr(self, name) for name in TEXTS if getattr(self, name) != START[name]}
        return urlencode(said | {"at": ",".join(map(str, self.at)), "ask": ",".join(self.methods)})

    @property
    def kinds(self) -> list[str]:
        """The schedules: one, or two that are compared.

        Raises:
            RequestError: There is no such schedule, or both are the same.
        """
        found = [self.schedule, *([self.other] if self.other else [])]
        if wrong := [kind for kind in found if kind not in KINDS]:
            raise RequestError(f"there is no schedule {wrong[0]!r}; choose from: {', '.join(KINDS)}")
        if len(found) == 2 and found[0] == found[1]:
            raise RequestError(f"both schedules are {found[0]}; compare with another one")
        return found

    def requests(self, model: Model) -> list[CompletedRequest]:
        """One request for each schedule, completed by the model.

        Raises:
            RequestError: Something is missing, unreadable or out of bounds.
            ModelError: The model is of another kind, or cannot follow a schedule.
        """
        check_fits(model)
        first = self.base.requests(model)[0]
        return [model.complete(first.with_(schedule=self.written(kind))) for kind in self.kinds]

    def written(self, kind: str) -> str | None:
        """A schedule as a request has it.

        Raises:
            RequestError: The window is none.
        """
        if kind != "window":
            return None if kind == "uniform" else kind
        high = number("the window's first timestep", self.high, 0, LAST + 1)
        low = number("the window's last timestep", self.low, 0, LAST)
        if high is None or low is None:
            raise RequestError("the window lacks a bound; give its first and its last timestep, such as 600 and 300")
        if high <= low:
            raise RequestError(
                f"the window goes from {high} to {low}, but a run falls from {LAST} (noise) to 0 (image): give the "
                "larger timestep first"
            )
        return f"window:{high}-{low}"

    def checked_at(self, count: int) -> tuple[int, ...]:
        """The steps to look at in a run of so many.

        Raises:
            RequestError: None is chosen, too many are, or one lies outside the run.
        """
        if not self.at:
            raise RequestError("no step is chosen; mark one or more on the strip of the run")
        if len(self.at) > MOST_AT:
            raise RequestError(f"{len(self.at)} steps are chosen; look at {MOST_AT} or fewer at a time")
        if wrong := [step for step in self.at if not 0 <= step < count]:
            raise RequestError(f"step {wrong[0]} is chosen, but this run has steps 0 to {count - 1}; mark others")
        return self.at

    def options(self, model: Model, request: CompletedRequest) -> dict[str, dict[str, Any]]:
        """By method, in order, what it is told.

        Raises:
            OptionError: No method is chosen, or a number cannot be read.
            ModelError: A method does not fit the model.
        """
        if not self.methods:
            raise OptionError("nothing is asked; choose one or more of the questions")
        count = model.steps(request)
        at = self.checked_at(count)
        found: dict[str, dict[str, Any]] = {}
        if "df_rise" in self.methods:
            masks = number("the number of masks", self.masks, 4, MOST_MASKS)
            found["df_rise"] = {
                "at": at,
                "masks": masks or int(START["masks"]),
                "until": decimal("the error to stop at", self.until, 0.001, 10),
                "masking": self.masking,
            }
        if "df_cam" in self.methods:
            found["df_cam"] = {"at": at}
        kinds = tuple(kind for kind in BASELINES if kind in self.methods)
        if kinds:
            found["step_baselines"] = {"at": at, "kinds": kinds, "samples": SAMPLES}
        if "relevance" in self.methods and not find("relevance").missing(model):
            found["relevance"] = {"at": tuple(sorted({*at, *_spread(count)}))}
        if not set(found) - {"relevance"}:  # pictures of what the steps recover come with a map of any kind
            found["step_baselines"] = {"at": at, "kinds": ("centre",)}
        return found

    def said(self, offered: Sequence[str] = ASKABLE) -> str:
        """What is looked at, in words; of the questions those that are offered."""
        steps = ", ".join(str(step) for step in self.at) or "none"
        names = (
            ", ".join(NAMES.get(name, name.replace("_", " ")) for name in self.methods if name in offered) or "nothing"
        )
        spread = " and ".join([self.schedule, *([self.other] if self.other else [])])
        return f"{spread.capitalize()} run of {self.base.steps} steps; looking at {steps} by {names}"

    def cost(self, model: Model) -> str:
        """What all of it costs, in words.

        Raises:
            SfumatoError: It cannot be done.
        """
        requests = self.requests(model)
        parts = []
        for name, options in self.options(model, requests[0]).items():
            method = find(name)
            method.check(model)
            said = method.cost(model, requests[0], method.configure(options))
            parts.append(f"{NAMES.get(name, name)}: {said}")
        twice = ", and all of it twice, once for each schedule" if len(requests) > 1 else ""
        return "; ".join(parts) + twice


NAMES = {"df_rise": "DF-RISE", "df_cam": "DF-CAM", "relevance": "relevance", "step_baselines": "baselines"}


def check_fits(model: Model) -> None:
    """Refuse models that need pictures or whose steps cannot be called again.

    Raises:
        ModelError: It is one of those.
    """
    if not fits(model):
        why = (
            "paints by example, which the tab Reference shows"
            if "reference" in model.features
            else (
                "needs a picture to start from"
                if "image" in model.features
                else "cannot repeat a step from another latent"
            )
        )
        raise ModelError(f"{model.source.name} {why}; choose another model here")


def fits(model: Model) -> bool:
    """Whether the tab can ask a model: its steps can be repeated, and it makes images from words or labels alone."""
    return "replay" in model.features and not {"reference", "image"} & model.features


def askable(model: Model) -> list[str]:
    """Which of `ASKABLE` fit a model."""
    without = set()
    if find("relevance").missing(model):
        without.add("relevance")
    if "words" not in model.features:
        without.add("attention")
    return [name for name in ASKABLE if name not in without]


def timesteps(model: Model | None, asked: StepsAsked, count: int) -> dict[str, list[float]]:
    """The timesteps of every schedule with so many steps, falling; schedules that are not possible are left out.

    Args:
        model: Says what its own scheduler visits; without one, even distances are shown.
        asked: Has the bounds of the window.
        count: Of steps.
    """
    found: dict[str, list[float]] = {}
    for kind in KINDS:
        try:
            schedule = asked.written(kind)
            if schedule is not None:
                found[kind] = [float(one) for one in listed(schedule, count, LAST + 1)]
            else:
                found[kind] = _own(model, count)
        except (RequestError, ModelError):
            continue
    return found


def _own(model: Model | None, count: int) -> list[float]:
    if model is None:
        return [LAST * (1 - place / count) for place in range(count)]
    return schedule_of(model, model.complete(Request("a" if "words" in model.features else "", steps=count)))


def steps_of(text: Any) -> int:
    """The number of steps of the field; the tab's own where it is empty.

    Raises:
        RequestError: It is no such number.
    """
    return request_field("steps", text) or STEPS


def _spread(count: int) -> list[int]:
    """At most `LED` steps, evenly over the run."""
    most = min(count, LED)
    return sorted({round(place * (count - 1) / max(1, most - 1)) for place in range(most)})
