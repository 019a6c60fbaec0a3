"""Does what belongs to one object spill onto another? Similar nouns, swapped adjectives, colours in the wrong place.

Three questions of Tang et al. 2023: cohyponyms ("a giraffe and a zebra") share their maps and one of them goes missing;
changing an adjective changes the scene beyond its noun; and what ends up on the wrong object.
"""

from __future__ import annotations

from sfumato.bounds import checked_int
from sfumato.errors import OptionError
from sfumato.mapped import METHOD
from sfumato.models.model import Model
from sfumato.option_values import COUNT
from sfumato.progress import Progress, silent
from sfumato.runs.finding import Finding
from sfumato.studies.adjectives import adjectives, swapped_captions
from sfumato.studies.asking import asked, readable_by_reader
from sfumato.studies.cohyponyms import cohyponym_captions, cohyponyms
from sfumato.studies.leakage import leakage, two_object_captions


def study_entanglement(
    model: Model,
    pairs: int = 60,
    *,
    seed: int = 0,
    steps: int | None = None,
    method: str = METHOD,
    progress: Progress = silent,
) -> list[Finding]:
    """Ask the three questions.

    Args:
        model: One that draws studio scenes.
        pairs: How many pairs of images each of the first two questions gets; the third has as many plain prompts, and
            twice as many detailed ones.
        seed: Of the first pair; pair i has ``seed + i``, and both its images have the same.
        steps: Denoising steps; the model's own.
        method: One that makes the node ``words``.
        progress: Told about every prompt.

    Returns:
        A finding for each question: "cohyponyms", "adjectives" and "leakage".
    """
    checked_int("pairs", pairs, **COUNT, error=OptionError)
    plain = two_object_captions(pairs, seed, detailed=False)
    detailed = two_object_captions(2 * pairs, seed, detailed=True)
    captions = [*cohyponym_captions(pairs, seed), *swapped_captions(pairs, seed), *plain, *detailed]
    twice = [seed + pair for pair in range(pairs) for _ in range(2)]
    seeds = [*twice, *twice, *range(seed, seed + pairs), *range(seed, seed + 2 * pairs)]
    readable_by_reader(model, "entanglement")
    found = asked(model, captions, seeds=seeds, method=method, steps=steps, progress=progress)
    related, swapped, two = found[: 2 * pairs], found[2 * pairs : 4 * pairs], found[4 * pairs :]
    return [cohyponyms(model, related, method), adjectives(model, swapped), leakage(model, two, method)]
