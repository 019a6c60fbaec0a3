"""What a task is: one question of many requests in three parts, registered once with its options and its claim."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from sfumato.errors import ModelError, OptionError, RunError, UnknownTask
from sfumato.option_values import checked_options
from sfumato.progress import Progress
from sfumato.registry import Registry
from sfumato.request import CompletedRequest, Request
from sfumato.runs.prompts import Row

if TYPE_CHECKING:
    from sfumato.models.model import Model
    from sfumato.runs.finding import Finding


@dataclass(frozen=True)
class Claim:
    """What a publication states and a task tests.

    Attributes:
        text: The statement, in one sentence.
        paper: Where it stands, such as "Tang et al. 2022, figure 5".
    """

    text: str
    paper: str


@dataclass(frozen=True)
class Cost:
    """What a task costs, in generations and calls of the denoiser.

    Attributes:
        text: Of an item, in words, such as "one generation for each image".
        lines: Gives the cost of a run line by line, from the model, the completed request of the first item, the number
            of items and the options; None where the text says it all.
    """

    text: str
    lines: Callable[[Model, CompletedRequest, int, Any], Sequence[str]] | None = None


@dataclass(frozen=True)
class Captions:
    """Prompts that a task has of its own, for a number instead of a file.

    Attributes:
        of: Gives so many, always the same ones: texts, or rows by the names of their columns.
        usual: How many by default; 0 where prompts must be given.
        named: What they are, as help says it.
        seeded: Whether `of` also takes the seed of the run, and draws others for another seed.
    """

    of: Callable[..., Sequence[str | Mapping[str, Any]]]
    usual: int = 0
    named: str = "the embedded scenes' held-out captions"
    seeded: bool = False


@dataclass(frozen=True)
class NoOptions:
    """The task has no options."""


@dataclass(frozen=True)
class ModelFacts:
    """What a plan may depend on, known without another look at the model.

    Attributes:
        name: Of the model, as it was loaded.
        family: Of its pipeline.
        features: What it can do, such as "words" or "label".
        height: Of its images in pixels, by default.
        width: The same.
        regions: Parts of its images that it names, such as "eyes".
    """

    name: str
    family: str
    features: frozenset[str]
    height: int
    width: int
    regions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Item:
    """One unit of measurement.

    Attributes:
        request: What to generate.
        about: What else the measurement depends on or `conclude` must know, as JSON has it.
        row: The row of prompts that it comes from, for tasks that read prompts.
    """

    request: Request
    about: Mapping[str, Any] = field(default_factory=dict)
    row: Row | None = None


@dataclass(frozen=True)
class CompletedItem(Item):
    """An item whose request the model has completed."""

    request: CompletedRequest


@dataclass(frozen=True)
class Record:
    """What was measured of one item.

    Attributes:
        values: Numbers, texts, lists and mappings, as JSON has them; numbers and texts are columns of the table, equal
            in all rows of the item.
        arrays: Named arrays of numbers or booleans.
        rows: Of the table of items, as JSON has them: one for each word, say. Without any, an item is one row.
        maps: Arrays whose first dimension are the rows, or has one entry for all rows; those of all items are put
            together in ``arrays.zarr``.
        picture: An image (y, x, 3) of uint8, which becomes a file.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    rows: Sequence[Mapping[str, Any]] = ()
    maps: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    picture: NDArray[np.uint8] | None = None


class Records(Protocol):
    """The measured items of a run in the order of the plan; each pass reads them anew from the disk."""

    def __iter__(self) -> Iterator[tuple[Item, Record]]:
        """Every item that was measured, with its record."""
        ...

    def __len__(self) -> int:
        """How many items were measured."""
        ...


class Parts(Protocol):
    """The three parts of a task; it may also have `check`, as in `Checked`."""

    def plan(self, facts: ModelFacts, rows: Iterable[Row], options: Any) -> Iterable[Item | Row]:
        """The items, always the same ones for the same arguments; cheap, without torch.

        The rows may be gone through several times; they are read anew each time. A row that the task cannot use is
        given back with the reason (`Row.refused`) and counts as invalid.
        """
        ...

    def measure(
        self, model: Model, items: Sequence[CompletedItem], options: Any, progress: Progress
    ) -> Sequence[Record]:
        """A record for each of a batch of items, in order.

        An error fails the batch; the engine then tries its items apart and records the reason of each that fails.
        """
        ...

    def conclude(self, records: Records, options: Any, about: Mapping[str, Any]) -> Finding:
        """What the records show, from the disk alone: no model, and memory that does not grow with their number."""
        ...


@runtime_checkable
class Checked(Protocol):
    """A task that can tell from the model that a run is in vain."""

    def check(self, model: Model, options: Any) -> None:
        """Refuse a run before it is planned.

        Raises:
            SfumatoError: The options and the model do not fit each other.
        """
        ...


@dataclass(frozen=True)
class Task:
    """A registered task.

    Attributes:
        name: What it is run by.
        question: The question that it answers, in one line.
        options: A frozen dataclass, as for methods (`sfumato.registry.Method`).
        cost: What it costs, which is told before a run begins.
        needs: Features that a model must have; of "words or label", for example, one is enough.
        version: Raised when the numbers change that it measures.
        claim: What it tests; None for a task that only measures.
        prompts: What stands for a number of prompts; None for a task that plans its requests by itself.
        parts: Plan, measure and conclude.
        model: The embedded model that is taken where none is named.
        shard: Items of a shard by default, where an item takes so long that a kill must not cost many.
    """

    name: str
    question: str
    options: type
    cost: Cost
    needs: frozenset[str]
    version: int
    claim: Claim | None
    prompts: Captions | None
    parts: Parts
    model: str = "studio/scenes"
    shard: int | None = None

    def configure(self, given: Mapping[str, Any]) -> Any:
        """Build the options.

        Raises:
            OptionError: An option does not exist, or its value is of another type, out of bounds or unusable.
        """
        known = [f.name for f in fields(self.options)]
        if unknown := [name for name in given if name not in known]:
            listed = ", ".join(known) or "none"
            raise OptionError(f"{self.name} has no option {unknown[0]!r}; its options are: {listed}")
        return self.options(**checked_options(self.options, given))

    def costs(self, model: Model, request: CompletedRequest, items: int, options: Any) -> list[str]:
        """What a run costs, line by line.

        Args:
            model: The model.
            request: Of the first item.
            items: How many there are.
            options: Of the task.
        """
        if self.cost.lines is None:
            return [f"{self.cost.text}; {items:,} item{'s' if items != 1 else ''}"]
        return list(self.cost.lines(model, request, items, options))

    def check(self, facts: ModelFacts, model: Model, options: Any) -> None:
        """Refuse a model that lacks what the task needs, and options that do not fit it.

        Raises:
            ModelError: The message names what is missing.
            SfumatoError: The task itself refuses them; see `Checked`.
        """
        if missing := sorted(need for need in self.needs if not facts.features.intersection(need.split(" or "))):
            about = f"{facts.name} ({facts.family})"
            raise ModelError(f"{self.name} needs {', '.join(missing)}, which {about} does not have")
        if isinstance(self.parts, Checked):
            self.parts.check(model, options)


_tasks: Registry[Task] = Registry("task", "sfumato.tasks", "sfumato.tasks", UnknownTask)


def task(
    name: str,
    *,
    question: str,
    options: type,
    cost: Cost,
    needs: Sequence[str] = (),
    version: int = 1,
    claim: Claim | None = None,
    prompts: Captions | None = None,
    model: str = "studio/scenes",
    shard: int | None = None,
) -> Callable[[type[Parts]], type[Parts]]:
    """Register a class with `plan`, `measure` and `conclude`; see `Task` for the arguments.

    Raises:
        SfumatoError: The name is taken.
    """

    def register(parts: type[Parts]) -> type[Parts]:
        about = (question, options, cost, frozenset(needs), version, claim, prompts)
        _tasks.add(name, Task(name, *about, parts(), model, shard))
        return parts

    return register


def tasks() -> tuple[Task, ...]:
    """All tasks by name: the modules of `sfumato.tasks`, then what installed packages offer by the entry point."""
    return _tasks.all()


def find_task(name: str) -> Task:
    """The task of a name.

    Raises:
        UnknownTask: There is none; the message lists all names.
    """
    return _tasks.find(name)


def task_of(settings: Mapping[str, Any]) -> tuple[Task, Any]:
    """The task of a run and its options, from the settings of the run."""
    found = find_task(settings["task"])
    return found, found.configure(settings["options"])


def task_of_records(settings: Mapping[str, Any]) -> tuple[Task, Any]:
    """The same, to conclude from records that are there.

    Raises:
        RunError: They are of another version of the task, so they may lack what it needs.
    """
    found, options = task_of(settings)
    if (version := settings.get("task_version", 1)) != found.version:
        raise RunError(
            f"the records are of version {version} of {found.name}, and this is version {found.version}; measure them "
            "anew: the command of the run with --restart"
        )
    return found, options


def plain_options(options: Any) -> dict[str, Any]:
    """All options with their values, as JSON has them."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(options).items()}
