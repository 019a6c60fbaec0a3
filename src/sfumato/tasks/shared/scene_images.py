"""What tasks share that read the objects in images of the embedded scenes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from sfumato.errors import ModelError, RequestError
from sfumato.runs.prompts import Row
from sfumato.runs.task import Item, ModelFacts
from sfumato.studio.grammar import ScenePlan, parsed
from sfumato.studio.reader import Reading, SeenThing
from sfumato.studio.shapes import SIZE

EXAMPLES = 4
"""So many examples are drawn."""
OTHER = "other"
"""The column of the second prompt of a pair."""

NOTHING_SHOWN = "The images show none of the prompts' objects, so nothing can be scored; train the model longer."
"""The sentence of a finding without a word that could be judged."""

Panel = tuple[str, NDArray[Any], bool]
"""Title, image or map, and whether it is a map."""


def check_scene_size(task: str, facts: ModelFacts) -> None:
    """Refuse a model whose images the reader of the scenes cannot read.

    Raises:
        ModelError: They have another size.
    """
    if (facts.height, facts.width) != (SIZE, SIZE):
        raise ModelError(
            f"{task} reads what the images show, which works for the scenes alone ({SIZE} x {SIZE} pixels); "
            f"{facts.name} makes {facts.height} x {facts.width}; take studio/scenes or a model trained by "
            "`sfumato train scenes`"
        )


def caption_items(
    rows: Iterable[Row],
    fault: Callable[[ScenePlan], str],
    about: Callable[[Row], Mapping[str, Any]] = lambda row: {},
) -> Iterator[Item | Row]:
    """An item for each image of each row whose prompt is a caption of the grammar.

    Args:
        rows: Of the run.
        fault: Says why a caption does not serve the task; "" where it does.
        about: Gives what else the item depends on; its `RequestError` refuses the row.
    """
    for row in rows:
        if row.request is None:
            continue
        try:
            why, more = fault(parsed(row.request.prompt)), about(row)
        except RequestError as error:
            yield row.refused(str(error))
            continue
        if why:
            yield row.refused(why)
            continue
        for number in range(row.request.images):
            yield Item(row.request.of_image(number), more, row)


def pair_items(
    rows: Iterable[Row], fault: Callable[[ScenePlan], str], pair_fault: Callable[[ScenePlan, ScenePlan], str]
) -> Iterator[Item | Row]:
    """An item for each row with a second caption in the column ``other``, whose image has the same seed.

    Args:
        rows: Of the run.
        fault: Says why a caption does not serve the task; "" where it does.
        pair_fault: The same of the two captions together.
    """

    def about(row: Row) -> Mapping[str, Any]:
        other = row.kept.get(OTHER)
        if not isinstance(other, str):
            raise RequestError(f"it has no column {OTHER}; expected the second caption of the pair")
        first, second = parsed(row.request.prompt if row.request else ""), parsed(other)
        if why := fault(first) or fault(second) or pair_fault(first, second):
            raise RequestError(why)
        return {OTHER: other}

    return caption_items(rows, fault, about)


def paired(captions: Sequence[str]) -> list[dict[str, str]]:
    """Captions that follow each other in pairs as rows of prompts."""
    return [{"prompt": one, OTHER: other} for one, other in zip(captions[::2], captions[1::2], strict=True)]


def two_objects(plan: ScenePlan) -> str:
    """Why a caption does not name two single objects of different shapes, each with a colour; "" where it does."""
    groups = plan.groups
    fits = len(groups) == 2 and len({one.shape for one in groups}) == 2
    if fits and all(one.colour and one.count == 1 for one in groups):
        return ""
    return "it does not name two objects of different shapes, each with a colour, as: a red circle and a blue square"


def of_shape(reading: Reading, shape: str) -> SeenThing | None:
    """The largest seen object of a shape."""
    return next((thing for thing in reading.things if thing.shape == shape), None)


def title(caption: str) -> str:
    """The objects of a caption: "red circle and blue square"."""
    return " and ".join(f"{group.colour} {group.shape}" for group in parsed(caption).groups)
