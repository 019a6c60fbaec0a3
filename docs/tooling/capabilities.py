"""Which method runs on which pipeline, by the needs that the registry names and the features that the models have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sfumato.models.model import FEATURES, Model
from sfumato.registry import Method, methods

HEADER = "| Method | Needs | Runs on |\n| --- | --- | --- |\n"


@dataclass(frozen=True)
class Fit:
    """A pipeline and the methods that run on it.

    Attributes:
        name: As the table of pipelines has it; a variant follows a comma ("Stable Diffusion, inpainting").
        family: Of the model.
        methods: Names of the methods.
    """

    name: str
    family: str
    methods: frozenset[str]


def fit(name: str, model: Model) -> Fit:
    """What runs on a model."""
    return Fit(name, model.family, frozenset(method.name for method in methods() if not method.missing(model)))


def table(fits: Sequence[Fit], folder: str) -> str:
    """One row for each method: what it needs of a model, and the pipelines that have it.

    Args:
        fits: All pipelines.
        folder: Where the pages of the methods lie, from the page of the table.
    """
    rows = [
        f"| [`{method.name}`]({folder}/{method.name}.md) | {needs(method)} | {pipelines_of(method.name, fits)} |\n"
        for method in sorted(methods(), key=lambda method: method.name)
    ]
    return HEADER + "".join(rows)


def needs(method: Method) -> str:
    """What a method needs of a model, in words."""
    parts = [" or ".join(FEATURES[one] for one in need.split(" or ")) for need in sorted(method.needs)]
    return "; ".join(parts) or "nothing"


def methods_of(one: Fit) -> str:
    """The methods that run on a pipeline, or those that do not where they are fewer."""
    every = sorted(method.name for method in methods())
    runs = [f"`{name}`" for name in every if name in one.methods]
    others = [f"`{name}`" for name in every if name not in one.methods]
    if not others:
        return "all"
    return ", ".join(runs) if len(runs) <= len(others) else f"all but {', '.join(others)}"


def pipelines_of(method: str, fits: Sequence[Fit]) -> str:
    """The pipelines that a method runs on, or those that it does not run on where that is shorter to say."""
    runs = _listed([one.name for one in fits if method in one.methods], fits)
    others = _listed([one.name for one in fits if method not in one.methods], fits)
    if not others:
        return "every pipeline"
    return f"every pipeline but {others}" if runs and len(others) < len(runs) else runs or "no pipeline of these"


def _listed(names: Sequence[str], fits: Sequence[Fit]) -> str:
    """Names of pipelines, the variants of one kind together: all of them, some, or all but some."""
    kinds: dict[str, dict[str, bool]] = {}
    for one in fits:
        kind, variant = _kind_and_variant(one, fits)
        kinds.setdefault(kind, {})[variant] = one.name in names
    parts = []
    for kind, variants in kinds.items():
        inside = [variant or "plain" for variant, chosen in variants.items() if chosen]
        outside = [variant or "plain" for variant, chosen in variants.items() if not chosen]
        if not outside:
            parts.append(kind)
        elif inside:
            few = f"not {' or '.join(outside)}" if len(outside) < len(inside) else f"{' and '.join(inside)} only"
            parts.append(f"{kind} ({few})")
    return ", ".join(parts)


def _kind_and_variant(one: Fit, fits: Sequence[Fit]) -> tuple[str, str]:
    """ "Stable Diffusion" and "inpainting"; also "Flux" and "dev", where another pipeline of the family is a Flux."""
    kind, _, variant = one.name.partition(", ")
    others = {other.name.partition(", ")[0] for other in fits if other.family == one.family}
    shortest = min((other for other in others if kind.startswith(f"{other} ")), key=len, default="")
    return (shortest, kind.removeprefix(f"{shortest} ")) if shortest else (kind, variant)
