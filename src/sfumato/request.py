"""A request: what to generate. Frozen, hashable, checked on creation; it names no method and no model."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from sfumato.errors import RequestError
from sfumato.timesteps import parse_schedule

if TYPE_CHECKING:
    from sfumato.pictures import Picture

MAX_STEPS = 1000
MAX_IMAGES = 64
MAX_SIDE = 8192
MAX_REFERENCES = 16
SEEDS = 2**63
LATER = frozenset(
    {"image", "strength", "label", "schedule", "mask", "reference", "invert", "at", "variation", "more_references"}
)
AT = 300
"""By default: on scenes with known truth maps at 100 and 300 are far better than at 500 (docs/pipelines.md)."""
PICTURES = ("image", "mask", "reference")
"""Fields that the key leaves out where nothing is given, so that older keys stay as they were."""


@dataclass(frozen=True)
class Request:
    """One prompt, or one label, and everything that its images depend on, apart from the model.

    A field left at None takes the model's own default when the request is run; the explanation then
    carries the completed request. Image i of a request starts from seed ``seed + i``, so the first image of
    several is the image of a single one.

    Args:
        prompt: The text. May be empty (the unconditional image), but then methods over words refuse it. Models without
            text take none.
        negative_prompt: What to steer away from; used only with guidance.
        seed: Of the first image, 0 to 2**63 - 1.
        steps: Denoising steps, 1 to 1000.
        guidance: Classifier-free guidance scale, finite and at least 0; 1 or below switches guidance off.
        height: Of the image in pixels.
        width: Of the image in pixels.
        scheduler: Name of a scheduler that fits the model, such as "ddim" or "euler".
        images: How many images to make of this prompt, 1 to 64.
        image: What an image-to-image pipeline starts from: a path to a PNG, JPEG or WebP file, a PIL image, or an array
            (y, x, 3) of uint8. It is kept as a ``Picture``.
        strength: How much of that image is made anew, above 0 to 1: the share of the steps that are run.
        label: What a label-conditional model is told, such as "0011"; the model says how labels look.
        mask: Where an inpainting pipeline paints: a black and white picture of the image's size, white inside, given
            like `image`, or an array (y, x) of booleans.
        reference: What is painted is read from this picture, by models that take one; given like `image`.
        more_references: Where several IP-Adapters are loaded, those of the second and the following ones, in order;
            given like `reference`, which all of them read where this is left out.
        invert: "noise" looks at a given image instead of making one: it is noised to the timestep `at`, and the
            denoiser is called once. For text-to-image pipelines, where `image` has no other meaning.
        at: The timestep that a given image is noised to, 1 to 999; 300 by default.
        schedule: Which timesteps the steps visit: "early" or "late" (dense there; "early:30" more so than the usual
            60), "window:600-400" (dense inside), or the timesteps themselves, falling; the scheduler's own by default.
        variation: Another seed and a strength s from 0 to 1: all noise is mixed with that of the other seed, as
            sqrt(1 - s^2) and s. Strength 0 gives the image of the own seed, 1 that of the other one; image i is mixed
            with the other seed + i.

    Raises:
        RequestError: A field is out of range; the message says which and what is allowed.

    Example:
        >>> Request("a red circle", seed=7).seeds
        (7,)
    """

    prompt: str = ""
    negative_prompt: str = ""
    seed: int = 0
    steps: int | None = None
    guidance: float | None = None
    height: int | None = None
    width: int | None = None
    scheduler: str | None = None
    images: int = 1
    image: Picture | None = None
    strength: float | None = None
    label: str | None = None
    mask: Picture | None = None
    reference: Picture | None = None
    schedule: str | tuple[int, ...] | None = None
    invert: str | None = None
    at: int | None = None
    variation: tuple[int, float] | None = None
    more_references: tuple[Picture, ...] | None = None

    def __post_init__(self) -> None:
        """Check every field, so that an existing request is a possible one."""
        _check_text("prompt", self.prompt)
        _check_text("negative_prompt", self.negative_prompt)
        _check_whole("images", self.images, 1, MAX_IMAGES)
        _check_whole("seed", self.seed, 0, SEEDS - self.images)
        if self.steps is not None:
            _check_whole("steps", self.steps, 1, MAX_STEPS)
        for name in ("height", "width"):
            if (side := getattr(self, name)) is not None:
                _check_whole(name, side, 8, MAX_SIDE)
        if self.guidance is not None:
            object.__setattr__(self, "guidance", _checked_guidance(self.guidance))
        if self.scheduler is not None and not (isinstance(self.scheduler, str) and self.scheduler.strip()):
            raise RequestError(
                f"scheduler is {self.scheduler!r}; give a scheduler's name, such as 'ddim', or leave it out"
            )
        if any(getattr(self, name) is not None for name in (*PICTURES, "more_references")):
            self._read_pictures()
        if self.label is not None and not (isinstance(self.label, str) and self.label.strip()):
            raise RequestError(f"label is {self.label!r}; give it as text, such as '0011', or leave it out")
        if self.strength is not None:
            object.__setattr__(self, "strength", _checked_strength(self.strength))
        self._check_invert()
        if self.variation is not None:
            object.__setattr__(self, "variation", _checked_variation(self.variation, self.images))
        object.__setattr__(self, "schedule", schedule := parse_schedule(self.schedule))
        if isinstance(schedule, tuple):
            if self.steps not in (None, len(schedule)):
                raise RequestError(
                    f"schedule lists {len(schedule)} timesteps, but steps is {self.steps}; leave out the steps"
                )
            object.__setattr__(self, "steps", len(schedule))

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seed of every image."""
        return tuple(self.seed + i for i in range(self.images))

    @property
    def references(self) -> tuple[Picture, ...]:
        """All pictures that are read as references, in order."""
        return () if self.reference is None else (self.reference, *(self.more_references or ()))

    @property
    def key(self) -> str:
        """SHA-256 of the canonical form: equal requests have equal keys in every process and version of Python."""
        plain = {name: value for name, value in self._fields().items() if name not in LATER or value is not None}
        for name in PICTURES:
            if (picture := getattr(self, name)) is not None:
                plain[name] = picture.sha256
        if self.more_references is not None:
            plain["more_references"] = [one.sha256 for one in self.more_references]
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """All fields by name, ready for JSON; an image as ``Picture.to_dict`` gives it."""
        pictures = {name: getattr(self, name) for name in PICTURES}
        more = None if self.more_references is None else [one.to_dict() for one in self.more_references]
        found = {name: None if one is None else one.to_dict() for name, one in pictures.items()}
        return self._fields() | found | {"more_references": more}

    def _check_invert(self) -> None:
        if self.invert not in (None, "noise"):
            raise RequestError(f"invert is {self.invert!r}; the way to look at a given image is 'noise'")
        if self.invert is None and self.at is not None:
            raise RequestError(f"at is {self.at}, but no image is to be noised; give invert='noise' and an image")
        if self.invert is not None:
            if self.image is None:
                raise RequestError("invert looks at a given image; give one: Request(..., image='photo.png')")
            object.__setattr__(self, "at", AT if self.at is None else self.at)
            _check_whole("at", self.at, 1, MAX_STEPS - 1)

    def _read_pictures(self) -> None:
        # few requests have pictures, and what reads them takes a while to import
        from sfumato.pictures import Picture, stencil

        for name in PICTURES:
            if (given := getattr(self, name)) is not None:
                object.__setattr__(self, name, (stencil if name == "mask" else Picture.of)(given))
        if self.more_references is not None:
            self._read_more(Picture.of)
        if self.mask is not None and self.image is not None:
            sizes = [(one.height, one.width) for one in (self.mask, self.image)]
            if sizes[0] != sizes[1]:
                raise RequestError(
                    f"the mask is {sizes[0][0]} x {sizes[0][1]} pixels (height x width), the image {sizes[1][0]} x "
                    f"{sizes[1][1]}; give a mask of the image's size"
                )

    def _read_more(self, of: Callable[[Any], Picture]) -> None:
        given: Any = self.more_references
        if not isinstance(given, list | tuple) or not given:
            raise RequestError(f"more_references is {type(given).__name__}; expected a list of pictures, at least one")
        if len(given) >= MAX_REFERENCES:
            raise RequestError(f"more_references has {len(given)} pictures; expected fewer than {MAX_REFERENCES}")
        if self.reference is None:
            raise RequestError("more_references was given without a reference; the first picture is the reference")
        object.__setattr__(self, "more_references", tuple(of(one) for one in given))

    def _fields(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Request:
        """Rebuild a request from ``to_dict``.

        Raises:
            RequestError: A field is unknown, missing or out of range.
        """
        known = [f.name for f in fields(cls)]
        if unknown := sorted(set(values) - set(known)):
            raise RequestError(f"a request has no field {unknown[0]!r}; its fields are: {', '.join(known)}")
        return cls(**values)

    def with_(self, **changes: Any) -> Request:
        """A copy with some fields changed, checked again."""
        return replace(self, **changes)


def _check_text(name: str, text: object) -> None:
    if not isinstance(text, str):
        raise RequestError(f"{name} is {type(text).__name__}; expected text (one request holds one prompt)")
    if "\0" in text:
        raise RequestError(f"{name} contains a NUL character at place {text.index(chr(0))}; remove it")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RequestError(
            f"{name} contains half of a surrogate pair at place {error.start}, which is no valid text; remove it"
        ) from None


def _check_whole(name: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise RequestError(f"{name} is {value!r}; expected a whole number from {low} to {high}")


def _checked_guidance(value: object) -> float:
    try:
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or number < 0:
        raise RequestError(f"guidance is {value!r}; expected a finite number, 0 or more (1 or below switches it off)")
    return number + 0.0  # -0.0 becomes 0.0: equal requests have equal keys


def _checked_variation(value: object, images: int) -> tuple[int, float]:
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise RequestError(f"variation is {value!r}; expected another seed and a strength, such as (5, 0.1)")
    seed, strength = value
    _check_whole("the seed of the variation", seed, 0, SEEDS - images)
    if isinstance(strength, bool) or not isinstance(strength, int | float) or not 0 <= strength <= 1:
        raise RequestError(f"the strength of the variation is {strength!r}; expected a number from 0 to 1")
    return int(seed), strength + 0.0  # as for the guidance


def _checked_strength(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise RequestError(
            f"strength is {value!r}; expected a number above 0, at most 1 (1 keeps nothing of the image)"
        )
    return float(value)
