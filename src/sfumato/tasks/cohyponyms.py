"""Do maps of similar nouns overlap more than those of unrelated ones, and do their images go wrong more often?

In Tang et al. 2023 cohyponyms ("a giraffe and a zebra") share their maps, and one of the two goes missing.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.metrics import bootstrap, lies, overlap, rank_correlation, verdict_of
from sfumato.models.model import Model
from sfumato.plots.studies import examples_sheet, panels_sheet, stacked
from sfumato.progress import Progress
from sfumato.registry import find
from sfumato.results.hard_maps import TAU
from sfumato.results.upscale import bicubic
from sfumato.runs.finding import Finding
from sfumato.runs.prompts import Row
from sfumato.runs.task import Captions, Claim, Cost, Item, ModelFacts, Record, Records, task
from sfumato.studio.grammar import Group, ScenePlan, caption_of, expected, parsed
from sfumato.studio.reader import matches, read
from sfumato.studio.shapes import COHYPONYMS, COLOURS, SHAPES
from sfumato.tasks.explain import check_method
from sfumato.tasks.shared.scene_images import (
    EXAMPLES,
    OTHER,
    Panel,
    check_scene_size,
    pair_items,
    paired,
    title,
    two_objects,
)
from sfumato.tasks.shared.word_maps import (
    Mapped,
    Sampling,
    WordMapOptions,
    costs_of_paired_maps,
    measured_pairs,
    or_nan,
    warn_of_one,
)

KINDS = ("cohyponyms", "unrelated")
SHARED, RANKED, RIGHT = MEASURES = (
    "IoU of the nouns' maps",
    "rank correlation of the maps",
    "both objects right",
)
CLAIM = Claim(
    "Maps of cohyponyms overlap more than those of unrelated nouns, and their images are wrong more often.",
    paper="Tang et al. 2023",
)


def cohyponym_captions(pairs: int, seed: int) -> list[str]:
    """Captions in pairs that differ in the second noun alone: of the first noun's kind, then unrelated to it."""
    chance = random.Random(f"cohyponyms {seed}")
    captions = []
    for _ in range(pairs):
        first = chance.choice(SHAPES)
        kin = next(kind for kind in COHYPONYMS.values() if first in kind)
        nouns = chance.choice([one for one in kin if one != first]), chance.choice([s for s in SHAPES if s not in kin])
        colours = chance.sample(tuple(COLOURS), 2)
        captions += [
            caption_of(ScenePlan((Group(first, colours[0]), Group(noun, colours[1])), "and")) for noun in nouns
        ]
    return captions


@task(
    "cohyponyms",
    question="Do maps of similar nouns overlap more than those of unrelated ones, and do their images go wrong?",
    options=WordMapOptions,
    cost=Cost("two explanations by the method for each pair (daam: two generations)", costs_of_paired_maps),
    needs=("words",),
    claim=CLAIM,
    prompts=Captions(lambda count, seed: paired(cohyponym_captions(count, seed)), usual=60, seeded=True),
)
class Cohyponyms:
    """Pairs of prompts with one seed: the second noun is similar to the first one, or unrelated to it.

    A row has the caption with the similar noun as its prompt, and that with the unrelated one in the column ``other``.
    The finding is replicated if with a cohyponym the IoU of the two nouns' maps is higher and both objects are right
    less often, each with a 95% interval over pairs that excludes zero.
    """

    def plan(self, facts: ModelFacts, rows: Iterable[Row], options: WordMapOptions) -> Iterator[Item | Row]:
        """An item for each pair of captions."""
        check_method(find(options.method), facts)
        check_scene_size("cohyponyms", facts)
        return pair_items(rows, two_objects, _pair_fault)

    def measure(
        self, model: Model, items: Sequence[Item], options: WordMapOptions, progress: Progress
    ) -> Sequence[Record]:
        """Explain both images of each pair and compare the maps of their two nouns."""
        return [pair_record(both) for both in measured_pairs(model, items, options.method, progress)]

    def conclude(self, records: Records, options: WordMapOptions, about: Mapping[str, Any]) -> Finding:
        """The difference that a similar noun makes, over pairs."""
        warn_of_one(len(records))
        sampling = Sampling()
        found = []
        for item, record in records:
            sampling.add(item.request, prompts=2)
            found.append([[or_nan(row[name]) for row in record.rows] for name in MEASURES])
        values = dict(zip(MEASURES, np.array(found, np.float64).transpose(1, 0, 2), strict=True))  # (pair, kind) each
        gaps = {name: bootstrap(both[:, 0] - both[:, 1]) for name, both in values.items()}
        means = {
            name: {kind: bootstrap(both[:, side]) for side, kind in enumerate(KINDS)} for name, both in values.items()
        }
        rows = [{"measure": name} | means[name] | {"cohyponyms more": gaps[name]} for name in MEASURES]
        sentence = (
            f"With a cohyponym instead of an unrelated noun the maps' IoU is {gaps[SHARED]} higher, and both objects "
            f"are right {gaps[RIGHT]} more often."
        )
        closest = np.argsort(-values[SHARED][:, 0], kind="stable")[:EXAMPLES].tolist()
        shown = {index: _shown(item, record) for index, (item, record) in enumerate(records) if index in closest}
        figure = stacked(panels_sheet(means), examples_sheet([shown[index] for index in closest]))
        verdict = verdict_of(lies(gaps[SHARED], above=0), lies(gaps[RIGHT], below=0))
        told = {**about, "method": options.method, "tau": TAU} | sampling.about
        return Finding("cohyponyms", CLAIM.text, verdict, sentence, rows, figure, told)


def pair_record(both: Sequence[Mapped]) -> Record:
    """A row for each image of a pair; the images (2, y, x, 3) and the nouns' maps (2, noun, y, x) for the figure."""
    rows = []
    for kind, one in zip(KINDS, both, strict=True):
        first, second = (one.fine(index) for index in _nouns(one))
        score = matches(read(one.image), expected(one.request.prompt))
        rows.append(
            {
                "prompt": one.request.prompt,
                "nouns": kind,
                SHARED: round(overlap(first, second).iou, 5),
                RANKED: round(rank_correlation(first.ravel(), second.ravel()), 5),
                RIGHT: float(all(score.objects)),
            }
        )
    images, maps = [one.image for one in both], [one.maps[_nouns(one)] for one in both]
    return Record(arrays={"images": np.stack(images), "maps": np.stack(maps)}, rows=rows)


def _pair_fault(one: ScenePlan, other: ScenePlan) -> str:
    """Why two captions are no pair with a cohyponym and an unrelated noun; "" where they are."""
    (first, near), (same, far) = ([group.shape for group in plan.groups] for plan in (one, other))
    kin = next((kind for kind in COHYPONYMS.values() if first in kind), ())
    if first == same and near in kin and far not in kin:
        return ""
    return f"expected the same first noun, then one of its kind ({', '.join(kin)}) in the prompt and another in {OTHER}"


def _nouns(one: Mapped) -> list[int]:
    """Places of the nouns of objects in the prompt."""
    return [word.index for word in one.words if word.text.lower() in SHAPES]


def _shown(item: Item, record: Record) -> list[Panel]:
    """Both images of a pair, each with the maps of its nouns."""
    panels: list[Panel] = []
    captions = (item.request.prompt, item.about[OTHER])
    for caption, image, maps in zip(captions, record.arrays["images"], record.arrays["maps"], strict=True):
        panels.append((title(caption), image, False))
        for group, heat in zip(parsed(caption).groups, maps, strict=True):
            fine: NDArray[np.float64] = np.asarray(bicubic(heat, image.shape[:2]), np.float64)
            panels.append((group.shape, fine, True))
    return panels
