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
AT = 300
"""By default: on scenes with known truth maps at 100 and 300 are far better than at 500 (docs/pipelines.md)."""
MODELS_OWN = "the model's own"


def _about(kind: type | str | None, text: str, **more: Any) -> dict[str, Any]:
    """The metadata of a field: all that its check, files of prompts, commands and the page know of it.

    Args:
        kind: Of its value: int, float or str; "picture", "mask" or "pictures"; None for one with a check of its own.
        text: What it is, in a line.
        more: "least", "most" and "above" bound a number; "name" is its shorter name for people, "flag" that of the
            command line alone; "metavar" says how it is written and "example" what it is like; "usual" is what it is by
            default, in words; "read" reads a text with the name that messages have; "later" marks what the key leaves
            out where nothing is given, so that older keys stay as they were.
    """
    return {"kind": kind, "help": text} | more


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

    prompt: str = field(default="", metadata=_about(str, "What the image shows, for models that take text."))
    negative_prompt: str = field(default="", metadata=_about(str, "What the image must not show.", name="negative"))
    seed: int = field(default=0, metadata=_about(int, "Of the first image.", least=0, most=SEEDS - 1))
    steps: int | None = field(
        default=None, metadata=_about(int, "Denoising steps.", least=1, most=MAX_STEPS, usual=MODELS_OWN)
    )
    guidance: float | None = field(
        default=None,
        metadata=_about(float, "Guidance scale; 1 or below switches guidance off.", least=0, usual=MODELS_OWN),
    )
    height: int | None = field(default=None, metadata=_about(int, "Height alone, in pixels.", least=8, most=MAX_SIDE))
    width: int | None = field(default=None, metadata=_about(int, "Width alone, in pixels.", least=8, most=MAX_SIDE))
    scheduler: str | None = field(
        default=None,
        metadata=_about(
            str,
            "Name of a scheduler that fits the model, such as ddim or euler.",
            example="a scheduler's name, such as 'ddim'",
            usual=MODELS_OWN,
        ),
    )
    images: int = field(
        default=1, metadata=_about(int, "How many images; number i has the seed --seed + i.", least=1, most=MAX_IMAGES)
    )
    image: Picture | None = field(
        default=None,
        metadata=_about(
            "picture",
            "Start from this PNG, JPEG or WebP, as image-to-image pipelines do; with --invert, look at it.",
            metavar="FILE",
            later=True,
        ),
    )
    strength: float | None = field(
        default=None,
        metadata=_about(
            float, "How much of --image is made anew, above 0 to 1.", above=0, most=1, usual="0.8", later=True
        ),
    )
    label: str | None = field(
        default=None,
        metadata=_about(
            str,
            "What the image shows, for models that take labels, such as 0011.",
            example="it as text, such as '0011'",
            later=True,
        ),
    )
    mask: Mask | None = field(
        default=None, metadata=_about("mask", "Where the model paints into --image.", metavar="FILE", later=True)
    )
    reference: Picture | None = field(
        default=None,
        metadata=_about(
            "picture",
            "Paint what this picture shows, with models that read a reference; --image and --mask say where. "
            "Repeated, one for each --adapter.",
            metavar="FILE",
            later=True,
        ),
    )
    schedule: str | tuple[int, ...] | None = field(
        default=None,
        metadata=_about(
            None,
            "Which timesteps the steps visit: early, late (dense there), window:600-400, or a falling list.",
            usual="the scheduler's own",
            later=True,
        ),
    )
    invert: str | None = field(
        default=None,
        metadata=_about(
            None,
            "Look at --image itself instead of making one: it is noised to --timestep, and looked at once.",
            metavar="noise",
            later=True,
        ),
    )
    at: int | None = field(
        default=None,
        metadata=_about(
            int,
            "How far --invert noises the image, 1 to 999.",
            least=1,
            most=MAX_STEPS - 1,
            flag="timestep",
            usual=str(AT),
            later=True,
        ),
    )
    variation: tuple[int, float] | None = field(
        default=None,
        metadata=_about(
            None,
            "Mix the noise with that of another seed, from 0 (not at all) to 1 (altogether), such as 5:0.1.",
            metavar="SEED:STRENGTH",
            read=parse_variation,
            later=True,
        ),
    )
    more_references: tuple[Picture, ...] | None = field(
        default=None,
        metadata=_about(
            "pictures", "Of the second and the following IP-Adapters, in order.", metavar="FILE", later=True
        ),
    )

    def __post_init__(self) -> None:
        """Check every field, so that an existing request is a possible one."""
        for one in fields(Request):
            value = getattr(self, one.name)
            if value is not None or one.default is not None:
                object.__setattr__(self, one.name, _checked(one.name, value))
        object.__setattr__(self, "seed", checked_int("seed", self.seed, 0, SEEDS - self.images, RequestError))
        self._check_pictures()
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
        found = with_pictures(self.values(), lambda picture: picture.sha256)
        plain = {name: value for name, value in found.items() if value is not None or "later" not in ABOUT[name]}
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
        return with_pictures(self.values(), lambda picture: picture.to_dict())

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

    def _check_pictures(self) -> None:
        if self.more_references is not None and self.reference is None:
            raise RequestError("more_references was given without a reference; the first picture is the reference")
        if self.mask is not None and self.image is not None:
            sizes = [(one.height, one.width) for one in (self.mask, self.image)]
            if sizes[0] != sizes[1]:
                raise RequestError(
                    f"the mask is {sizes[0][0]} x {sizes[0][1]} pixels (height x width), the image {sizes[1][0]} x "
                    f"{sizes[1][1]}; give a mask of the image's size"
                )

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

    def of_image(self, number: int) -> Request:
        """The request of one of its images alone: with its seed, and with that of its variation."""
        varied = None if self.variation is None else (self.variation[0] + number, self.variation[1])
        return self.with_(seed=self.seeds[number], images=1, variation=varied)

    def with_(self, **changes: Any) -> Request:
        """A copy with some fields changed, checked again; of a completed request, one that is to be completed again."""
        return Request(**self.values() | changes)

    def filled(self, **values: Any) -> CompletedRequest:
        """The completed request with these values, among them those of all open fields; models call it."""
        return CompletedRequest(**self.values() | values)


ABOUT: Mapping[str, Mapping[str, Any]] = {one.name: one.metadata for one in fields(Request)}
"""What is known of each field, by its name; see ``_about``."""
PICTURES = tuple(name for name, about in ABOUT.items() if about["kind"] in ("picture", "mask", "pictures"))
SIZE: Mapping[str, Any] = {
    "kind": None,
    "help": "Height x width in pixels, such as 512x768.",
    "metavar": "HxW",
    "usual": MODELS_OWN,
    "read": parse_size,
}
"""The same of height and width together, as people write them."""


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


def with_pictures(values: Mapping[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    """Fields of a request by name, each picture of them changed.

    Args:
        values: Pictures, or what stands for them; several are a list or a tuple.
        change: Gives what a picture becomes.
    """

    def changed(value: Any) -> Any:
        return [change(one) for one in value] if isinstance(value, list | tuple) else change(value)

    return {name: changed(value) if name in PICTURES and value is not None else value for name, value in values.items()}


def _checked(name: str, value: Any) -> Any:
    """The value of a field that is given, as a request holds it."""
    about = ABOUT[name]
    if about["kind"] is int:
        return checked_int(name, value, about["least"], about["most"], RequestError)
    if about["kind"] is float:
        bounds = {one: about[one] for one in ("least", "most", "above") if one in about}
        return float(checked_number(name, value, RequestError, **bounds)) + 0.0  # not -0.0: equal ones have equal keys
    if about["kind"] is str:
        return _checked_text(name, value, about.get("example"))
    if name in PICTURES:
        # few requests have pictures, and what reads them takes a while to import
        from sfumato.inputs.image import Mask, Picture

        if about["kind"] == "pictures":
            return _several(name, value, Picture.of)
        return (Mask if about["kind"] == "mask" else Picture).of(value)
    return value


def _checked_text(name: str, text: object, example: str | None) -> str:
    if example is not None and (not isinstance(text, str) or not text.strip()):
        raise RequestError(f"{name} is {shown(text)}; give {example}, or leave it out")
    if not isinstance(text, str):
        raise RequestError(f"{name} is {type(text).__name__}; expected text (one request holds one prompt)")
    return checked_text(name, text, RequestError)


def _several(name: str, given: Any, of: Callable[[Any], Picture]) -> tuple[Picture, ...]:
    if not isinstance(given, list | tuple) or not given:
        raise RequestError(f"{name} is {type(given).__name__}; expected a list of pictures, at least one")
    if len(given) >= MAX_REFERENCES:
        raise RequestError(f"{name} has {len(given)} pictures; expected fewer than {MAX_REFERENCES}")
    return tuple(of(one) for one in given)


def _checked_variation(value: object, images: int) -> tuple[int, float]:
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise RequestError(f"variation is {shown(value)}; expected another seed and a strength, such as (5, 0.1)")
    seed = checked_int("the seed of the variation", value[0], 0, SEEDS - images, RequestError)
    strength = checked_number("the strength of the variation", value[1], RequestError, least=0, most=1)
    return seed, strength + 0.0  # as for the guidance
