"""Registries, and that of methods: each registered once, by one decorator, with its options, needs, cost and paper."""

from __future__ import annotations

import importlib
import pkgutil
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from sfumato.bounds import shown
from sfumato.errors import ModelError, OptionError, SfumatoError, SfumatoWarning, UnknownMethod
from sfumato.option_values import checked_options
from sfumato.progress import Progress
from sfumato.request import CompletedRequest, Request

if TYPE_CHECKING:
    from sfumato.models.model import Model
    from sfumato.results.explanation import Explanation

T = TypeVar("T")


class Registry(Generic[T]):
    """Entries by name: those that the modules of a package register, then those that installed packages offer.

    Args:
        noun: What an entry is, such as "method".
        package: Whose modules register the entries of Sfumato; a module that is named as its entry is found at once.
        group: The entry points by which other packages name modules that register more.
        unknown: Raised for a name that nobody has registered.
    """

    def __init__(self, noun: str, package: str, group: str, unknown: type[SfumatoError]) -> None:
        self._noun, self._package, self._group, self._unknown = noun, package, group, unknown
        self._entries: dict[str, T] = {}
        self._looked: tuple[Any, ...] = ()

    def add(self, name: str, entry: T) -> None:
        """Register an entry.

        Raises:
            SfumatoError: The name is taken.
        """
        if name in self._entries:
            raise SfumatoError(f"a {self._noun} named {name!r} is registered already; choose another name")
        self._entries[name] = entry

    def all(self) -> tuple[T, ...]:
        """All entries by name. A package that cannot be loaded is a warning.

        Packages are looked for once, and again where ``sys.path`` has changed.
        """
        where = entry_points, *sys.path
        if where != self._looked:
            package = importlib.import_module(self._package)
            for module in pkgutil.iter_modules(package.__path__):
                importlib.import_module(f"{self._package}.{module.name}")
            for entry in entry_points(group=self._group):
                try:
                    entry.load()
                except Exception as error:
                    warnings.warn(
                        f"the {self._noun} {entry.name!r} ({entry.value}) cannot be loaded and is left out: {error}",
                        SfumatoWarning,
                        stacklevel=3,
                    )
            self._looked = where
        return tuple(self._entries[name] for name in sorted(self._entries))

    def find(self, name: str) -> T:
        """The entry of a name; of Sfumato's own modules only that of this name is imported, where there is one.

        Raises:
            SfumatoError: There is none (the error of this registry); the message lists all names.
        """
        is_name = isinstance(name, str)
        if is_name and name not in self._entries and name.isidentifier() and find_spec(f"{self._package}.{name}"):
            importlib.import_module(f"{self._package}.{name}")
        if not is_name or name not in self._entries:
            self.all()
        if not is_name or name not in self._entries:
            known = ", ".join(sorted(self._entries))
            raise self._unknown(f"there is no {self._noun} {shown(name)}; choose from: {known}")
        return self._entries[name]


class HasFeatures(Protocol):
    """A model, or what is known of one."""

    @property
    def features(self) -> frozenset[str]:
        """What it can do."""
        ...


class Explainer(Protocol):
    """What a method is: a function of a model, requests that share one batch, and its options."""

    def __call__(
        self, model: Model, requests: Sequence[CompletedRequest], options: Any, progress: Progress
    ) -> list[Explanation]:
        """Explain every request; one explanation each, in order."""
        ...


@dataclass(frozen=True)
class Method:
    """A registered method.

    Attributes:
        name: What it is asked for by.
        summary: One line: the question it answers.
        options: A frozen dataclass; its fields are the options, their defaults and (in metadata) their help, and the
            bounds of numbers (see `sfumato.option_values.checked_options`). An option that names something on the disk
            says what, under "disk": a "mask" (a picture, or a region of the model), a "file", a "folder", a "model" or
            the "cache"; the web page never asks its visitors for these. One that is matched against names of layers
            says how, under "pattern": "glob" or "regex"; of visitors the web page takes only those that cannot take
            long to match. One that the model reads as it reads a prompt has "prompt": its words are checked against
            the model's vocabulary.
        needs: Features that a model must have; of "words or label", for example, one is enough.
        cost: Gives the cost of a completed request in words, in calls of the denoiser (and memory, where it is large).
        paper: Where the method was published.
        explain: The function itself.
        version: Of its numbers; raised when they change, so that no cache hands out those of before.
    """

    name: str
    summary: str
    options: type
    needs: frozenset[str]
    cost: Callable[[Model, CompletedRequest, Any], str]
    paper: str
    explain: Explainer
    version: int = 1

    def configure(self, given: Mapping[str, Any]) -> Any:
        """Build the options.

        Raises:
            OptionError: An option does not exist, or its value is of another type, out of bounds or unusable.
        """
        known = [f.name for f in fields(self.options)]
        if unknown := [name for name in given if name not in known]:
            raise OptionError(f"{self.name} has no option {unknown[0]!r}; its options are: {', '.join(known)}")
        return self.options(**checked_options(self.options, given))

    def missing(self, model: HasFeatures) -> list[str]:
        """What the method needs and a model does not have, sorted; empty where the method fits."""
        return sorted(need for need in self.needs if not model.features.intersection(need.split(" or ")))

    def check(self, model: Model) -> None:
        """Refuse a model that lacks what the method needs.

        Raises:
            ModelError: The message names what is missing, and the methods that fit.
        """
        if missing := self.missing(model):
            fit = [known.name for known in methods() if not known.missing(model)]
            raise ModelError(
                f"{self.name} needs {', '.join(missing)}, which {model.source.name} ({model.family}) does not have; "
                f"methods that fit it: {', '.join(fit) or 'none'}"
            )


_methods: Registry[Method] = Registry("method", "sfumato.methods", "sfumato.methods", UnknownMethod)


def method(
    name: str,
    *,
    summary: str,
    options: type,
    needs: Sequence[str],
    cost: Callable[[Model, CompletedRequest, Any], str],
    paper: str,
    version: int = 1,
) -> Callable[[Explainer], Explainer]:
    """Register a method.

    Args:
        name: See `Method`, as for the others.
        summary: One line.
        options: A frozen dataclass.
        needs: Features.
        cost: In words.
        paper: Where it was published.
        version: Raise it when the method's numbers change.

    Raises:
        SfumatoError: The name is taken.
    """

    def register(explain: Explainer) -> Explainer:
        _methods.add(name, Method(name, summary, options, frozenset(needs), cost, paper, explain, version))
        return explain

    return register


def methods() -> tuple[Method, ...]:
    """All methods by name: those of Sfumato, and those that installed packages offer under the entry-point group."""
    return _methods.all()


def usual_method(request: Request) -> str:
    """The method that explains a request where none is named: of a reference, of no words, or of words."""
    return "i2am" if request.reference is not None else "daam" if request.prompt else "profile"


def find(name: str) -> Method:
    """The method of a name.

    Raises:
        UnknownMethod: There is none; the message lists all names.
    """
    return _methods.find(name)
