"""A request: what to generate. Frozen, hashable, checked on creation; it names no method and no model."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Self

from sfumato.bounds import checked_int, checked_number, checked_text, shown
from sfumato.errors import RequestError
from sfumato.inputs.schedule import MAX_STEPS, parse_schedule

if TYPE_CHECKING:
    from sfumato.inputs.image import Mask, Picture

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


@dataclass(frozen=True, eq=False)
class Request:
    """One prompt, or one label, and everything that its images depend on, apart from the model.

    A field left at None takes the model's own default when the request is run; the explanation then
    carries the `CompletedRequest`. Image i of a request starts from seed ``seed + i``, so the first image of
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
    mask: Mask | None = None
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
        self._set_whole("images", 1, MAX_IMAGES)
        self._set_whole("seed", 0, SEEDS - self.images)
        for name, least, most in (("steps", 1, MAX_STEPS), ("height", 8, MAX_SIDE), ("width", 8, MAX_SIDE)):
            if getattr(self, name) is not None:
                self._set_whole(name, least, most)
        if self.guidance is not None:
            guidance = float(checked_number("guidance", self.guidance, RequestError, least=0))
            object.__setattr__(self, "guidance", guidance + 0.0)  # not -0.0: equal requests have equal keys
        _check_name("scheduler", self.scheduler, "a scheduler's name, such as 'ddim'")
        _check_name("label", self.label, "it as text, such as '0011'")
        if any(getattr(self, name) is not None for name in (*PICTURES, "more_references")):
            self._read_pictures()
        if self.strength is not None:
            strength = float(checked_number("strength", self.strength, RequestError, above=0, most=1))
            object.__setattr__(self, "strength", strength)
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
    def subject(self) -> str:
        """What the image is to show, for people: the prompt, the label, or the picture that it is made from."""
        if self.prompt:
            return self.prompt
        if self.label is not None:
            return f"label {self.label}"
        return (
            "a reference" if self.reference is not None else "a given image" if self.image is not None else "no prompt"
        )

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
        plain = {name: value for name, value in self.values().items() if name not in LATER or value is not None}
        for name in PICTURES:
            if (picture := getattr(self, name)) is not None:
                plain[name] = picture.sha256
        if self.more_references is not None:
            plain["more_references"] = [one.sha256 for one in self.more_references]
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()

    def __eq__(self, other: object) -> bool:
        """Whether all fields are equal; a completed request equals a plain one with its values."""
        return self.values() == other.values() if isinstance(other, Request) else NotImplemented

    def __hash__(self) -> int:
        """Of all fields."""
        return hash(tuple(self.values().values()))

    def values(self, *apart_from: str) -> dict[str, Any]:
        """The fields by name, all or without some."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in apart_from}

    def to_dict(self) -> dict[str, Any]:
        """All fields by name, ready for JSON; an image as ``Picture.to_dict`` gives it."""
        pictures = {name: getattr(self, name) for name in PICTURES}
        more = None if self.more_references is None else [one.to_dict() for one in self.more_references]
        found = {name: None if one is None else one.to_dict() for name, one in pictures.items()}
        return self.values() | found | {"more_references": more}

    def _set_whole(self, name: str, least: int, most: int) -> None:
        object.__setattr__(self, name, checked_int(name, getattr(self, name), least, most, RequestError))

    def _check_invert(self) -> None:
        if self.invert is not None and not (isinstance(self.invert, str) and self.invert == "noise"):
            raise RequestError(f"invert is {shown(self.invert)}; the way to look at a given image is 'noise'")
        if self.invert is None and self.at is not None:
            raise RequestError(
                f"at is {shown(self.at)}, but no image is to be noised; give invert='noise' and an image"
            )
        if self.invert is not None:
            if self.image is None:
                raise RequestError("invert looks at a given image; give one: Request(..., image='photo.png')")
            object.__setattr__(self, "at", AT if self.at is None else self.at)
            self._set_whole("at", 1, MAX_STEPS - 1)

    def _read_pictures(self) -> None:
        # few requests have pictures, and what reads them takes a while to import
        from sfumato.inputs.image import Mask, Picture

        for name in PICTURES:
            if (given := getattr(self, name)) is not None:
                object.__setattr__(self, name, (Mask if name == "mask" else Picture).of(given))
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

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Rebuild a request from ``to_dict``.

        Raises:
            RequestError: A field is unknown, missing or out of range.
        """
        if not isinstance(values, Mapping):
            raise RequestError(f"a request is {shown(values)}; expected its fields by name, as `to_dict` gives them")
        known = [f.name for f in fields(cls)]
        if unknown := [name for name in values if name not in known]:
            raise RequestError(f"a request has no field {shown(unknown[0])}; its fields are: {', '.join(known)}")
        return cls(**values)

    def with_(self, **changes: Any) -> Request:
        """A copy with some fields changed, checked again; of a completed request, one that is to be completed again."""
        return Request(**self.values() | changes)

    def filled(self, **values: Any) -> CompletedRequest:
        """The completed request with these values, among them those of all open fields; models call it."""
        return CompletedRequest(**self.values() | values)


@dataclass(frozen=True, eq=False)
class CompletedRequest(Request):
    """A request whose open fields a model has filled with its defaults; ``model.complete(request)`` makes it.

    It is equal to a plain request with its values and has the same key.

    Raises:
        RequestError: A field is still open.
    """

    steps: int = field(kw_only=True)
    guidance: float = field(kw_only=True)
    height: int = field(kw_only=True)
    width: int = field(kw_only=True)
    scheduler: str = field(kw_only=True)

    def __post_init__(self) -> None:
        """Check every field, and that none is open that a run needs."""
        super().__post_init__()
        for name in ("steps", "guidance", "height", "width", "scheduler"):
            if getattr(self, name) is None:
                raise RequestError(f"{name} of a completed request is open; complete it: model.complete(request)")


def parse_size(text: str, name: str = "size") -> tuple[int, int]:
    """Height and width of an image in pixels, as people write them: "512x768".

    Args:
        text: What was written.
        name: How the message calls it.

    Raises:
        RequestError: It is no size.

    Example:
        >>> parse_size("512x768")
        (512, 768)
    """
    found = re.fullmatch(r"\s*(\d{1,9})\s*[x×X,]\s*(\d{1,9})\s*", text, re.ASCII)
    if found is None:
        raise RequestError(f"{name} is {shown(text)}; expected height x width in pixels, such as 512x768")
    return int(found[1]), int(found[2])


def parse_variation(text: str, name: str = "variation") -> tuple[int, float]:
    """Another seed and a strength, as people write them: "5:0.1".

    Args:
        text: What was written.
        name: How the message calls it.

    Raises:
        RequestError: It is no variation.
    """
    found = re.fullmatch(r"\s*(\d{1,19})\s*:\s*(\d*\.?\d+)\s*", text, re.ASCII)
    if found is None:
        raise RequestError(f"{name} is {shown(text)}; expected another seed and a strength, such as 5:0.1")
    return int(found[1]), float(found[2])


def _check_text(name: str, text: object) -> None:
    if not isinstance(text, str):
        raise RequestError(f"{name} is {type(text).__name__}; expected text (one request holds one prompt)")
    checked_text(name, text, RequestError)


def _check_name(name: str, text: object, example: str) -> None:
    if text is None:
        return
    if not isinstance(text, str) or not text.strip():
        raise RequestError(f"{name} is {shown(text)}; give {example}, or leave it out")
    checked_text(name, text, RequestError)


def _checked_variation(value: object, images: int) -> tuple[int, float]:
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise RequestError(f"variation is {shown(value)}; expected another seed and a strength, such as (5, 0.1)")
    seed = checked_int("the seed of the variation", value[0], 0, SEEDS - images, RequestError)
    strength = checked_number("the strength of the variation", value[1], RequestError, least=0, most=1)
    return seed, strength + 0.0  # as for the guidance
