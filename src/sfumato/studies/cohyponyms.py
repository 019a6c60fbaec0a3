"""Do maps of similar nouns overlap more than those of unrelated ones, and do their images go wrong more often?"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.mapped import Mapped
from sfumato.metrics import bootstrap, lies, overlap, rank_correlation, verdict_of
from sfumato.models.model import Model
from sfumato.plots.studies import examples_sheet, panels_sheet, stacked
from sfumato.results.summary import TAU
from sfumato.runs.finding import Finding
from sfumato.studies.asking import about
from sfumato.studies.things import EXAMPLES, title
from sfumato.studio.grammar import Group, Plan, caption_of, expected
from sfumato.studio.reader import matches, read
from sfumato.studio.shapes import COHYPONYMS, COLOURS, SHAPES

SOURCE = "Maps of cohyponyms overlap more than those of unrelated nouns, and their images are wrong more often."


def cohyponym_captions(pairs: int, seed: int) -> list[str]:
    """Captions in pairs that differ in the second noun alone: of the first noun's kind, then unrelated to it."""
    chance = random.Random(f"cohyponyms {seed}")
    captions = []
    for _ in range(pairs):
        first = chance.choice(SHAPES)
        kin = next(kind for kind in COHYPONYMS.values() if first in kind)
        nouns = chance.choice([one for one in kin if one != first]), chance.choice([s for s in SHAPES if s not in kin])
        colours = chance.sample(tuple(COLOURS), 2)
        captions += [caption_of(Plan((Group(first, colours[0]), Group(noun, colours[1])), "and")) for noun in nouns]
    return captions


def cohyponyms(model: Model, found: Sequence[Mapped], method: str) -> Finding:
    """Pairs of similar against pairs of unrelated nouns, with everything else alike."""
    items = []
    for place, one in enumerate(found):
        first, second = (one.fine(number) for number in _nouns(one))
        score = matches(read(one.image), expected(one.request.prompt))
        items.append(
            {
                "prompt": one.request.prompt,
                "seed": one.request.seed,
                "nouns": "unrelated" if place % 2 else "cohyponyms",
                "IoU of the nouns' maps": round(overlap(first, second).iou, 5),
                "rank correlation of the maps": round(rank_correlation(first.ravel(), second.ravel()), 5),
                "both objects right": float(all(score.objects)),
            }
        )
    measures = [name for name in items[0] if name not in ("prompt", "seed", "nouns")]
    values = {name: np.array([item[name] for item in items], float).reshape(-1, 2) for name in measures}
    gaps = {name: bootstrap(both[:, 0] - both[:, 1]) for name, both in values.items()}
    rows = [
        {
            "measure": name,
            "cohyponyms": bootstrap(both[:, 0]),
            "unrelated": bootstrap(both[:, 1]),
            "cohyponyms more": gaps[name],
        }
        for name, both in values.items()
    ]
    shared, drawn = gaps[measures[0]], gaps[measures[2]]
    sentence = (
        f"With a cohyponym instead of an unrelated noun the maps' IoU is {shared} higher, and both objects are right "
        f"{drawn} more often."
    )
    bars = panels_sheet(
        {
            name: {kind: bootstrap(both[:, side]) for side, kind in enumerate(("cohyponyms", "unrelated"))}
            for name, both in values.items()
        }
    )
    closest = np.argsort(-values[measures[0]][:, 0], kind="stable")[:EXAMPLES]
    pictures = examples_sheet([[*_shown(found[2 * place]), *_shown(found[2 * place + 1])] for place in closest])
    verdict = verdict_of(lies(shared, above=0), lies(drawn, below=0))
    told = about(model, found, method=method, tau=TAU)
    return Finding("cohyponyms", SOURCE, verdict, sentence, rows, stacked(bars, pictures), told, items)


def _nouns(one: Mapped) -> list[int]:
    """Places of the nouns of objects in the prompt."""
    return [word.index for word in one.words if word.text in SHAPES]


def _shown(one: Mapped) -> list[tuple[str, NDArray[Any], bool]]:
    maps = [(one.words[place].text, one.fine(place), True) for place in _nouns(one)]
    return [(title(one), one.image, False), *maps]
