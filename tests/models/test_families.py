"""Every family in one table: words, sites, grids, guidance; images and pipelines left as they are; maps by softmax."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import sfumato
from sfumato.generation.generate import generate
from sfumato.models.families import OWN, SUPPORTED
from sfumato.models.model import Model
from sfumato.results.explanation import Explanation
from sfumato.results.upscale import bicubic
from tests.families import FAMILIES, Family
from tests.families.expected import expected
from tests.families.written_out import Call, written_out
from tests.pipelines import fingerprint

# diffusers and transformers turn tensors into arrays in a way that NumPy 2 is going to drop
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
MAPPED = [family for family in FAMILIES if not family.pipeline.startswith(("DD", "PaintBy"))]
NAMED = [family for family in MAPPED if expected(family).words]


@pytest.fixture(scope="module", params=MAPPED, ids=str)
def family(request: pytest.FixtureRequest) -> Family:
    found: Family = request.param
    return found


class Explained:
    """One family's pipeline, run by itself and then explained."""

    def __init__(self, family: Family) -> None:
        self.pipeline = family.build()
        self.model: Model = family.wrapped(self.pipeline)
        denoiser = self.model.denoiser
        with written_out(denoiser) as calls:
            self.plain = family.run(self.pipeline)
        self.calls: list[Call] = calls
        before = fingerprint(self.pipeline)
        self.found: Explanation = sfumato.explain(self.model, family.request())
        self.restored = fingerprint(self.pipeline) == before
        self.after = family.run(self.pipeline)


@pytest.fixture(scope="module")
def explained(family: Family) -> Explained:
    return Explained(family)


def test_every_supported_pipeline_has_a_family() -> None:
    assert {family.pipeline for family in FAMILIES} | set(OWN) == set(SUPPORTED)


def test_the_image_is_the_same_watched_and_after(explained: Explained) -> None:
    np.testing.assert_array_equal(np.asarray(explained.found.image), explained.plain)
    np.testing.assert_array_equal(explained.after, explained.plain)
    assert explained.restored


def test_words_have_their_own_tokens(family: Family, explained: Explained) -> None:
    wanted = expected(family).words
    if not wanted:
        assert "words" not in explained.model.features
        assert "words" not in explained.found.tree.children
        return
    words = explained.model.tokens(family.request().prompt).words
    places = {w.text if w.occurrence == 1 else f"{w.text}#{w.occurrence}": list(w.tokens) for w in words}
    assert {name: places[name] for name in wanted} == wanted
    assert [w.text for w in words] == ["a", "red", "cat", ",", "a", "zebra", "and", "a", "cat", "on", "the", "table"]


def test_sites_and_branches(family: Family, explained: Explained) -> None:
    facts = expected(family)
    sites = explained.model.sites()
    assert {site.kind for site in sites} - {"self"} == facts.kinds
    read = {site.name for site in sites if site.kind != "self"}
    assert read == {call.module for call in explained.calls if _reads_text(call, facts.kinds)}
    branches = explained.model.branches(explained.model.complete(family.request()))
    assert (branches.names, branches.sequential) == (facts.branches, facts.sequential)


def test_maps_are_those_of_an_ordinary_softmax(family: Family, explained: Explained) -> None:
    tokens = explained.found.tree["tokens"].to_dataset()
    latent = (tokens.sizes["y"], tokens.sizes["x"])
    wanted = by_softmax(family, explained, latent)[tokens["index"].values]
    np.testing.assert_allclose(tokens["map"].values, wanted, rtol=0, atol=1e-5)  # the kernel's sum has 24 bits
    assert wanted.std() > 1e-4  # flat maps would agree by chance


def by_softmax(family: Family, explained: Explained, latent: tuple[int, int]) -> NDArray[np.float64]:
    """(token, y, x): the mean over calls, layers and heads of the conditional rows, each scaled to the latent."""
    facts, model = expected(family), explained.model
    sites = {site.name: site for site in model.sites() if site.kind != "self" and site.place != "mid"}
    branch = facts.branches.index("conditional")
    total, weight = 0.0, 0
    for call in explained.calls:
        if call.module not in sites or call.order:
            continue
        if facts.sequential and call.number % len(facts.branches) != branch:
            continue
        rows = 1 if facts.sequential else len(facts.branches)
        assert call.maps.shape[0] == rows
        maps = call.maps[0 if facts.sequential else branch]  # (head, query, key)
        start, count = facts.text
        positions = maps.shape[1] - (count + start if facts.image else 0)
        positions = min(positions, maps.shape[1] - count) if start > facts.image else positions
        maps = maps[:, facts.image : facts.image + positions, start : start + count]
        grid = _grid(positions, latent)
        assert grid[0] * grid[1] == positions
        scaled = maps.permute(0, 2, 1).reshape(len(maps), count, *grid).sum(0).numpy()
        total = total + bicubic(scaled, latent)
        weight += len(maps)
    return np.clip(np.asarray(total) / weight, 0, None)


def _grid(positions: int, latent: tuple[int, int]) -> tuple[int, int]:
    """The latent's sides, halved until they have so many positions."""
    height, width = latent
    while height * width > positions:
        height, width = -(-height // 2), -(-width // 2)
    return height, width


def _reads_text(call: Call, kinds: frozenset[str]) -> bool:
    queries, keys = call.maps.shape[-2:]
    if "joint" in kinds:
        return queries == keys and ".attn2" not in call.module
    return queries != keys


@pytest.mark.parametrize("family", [f for f in FAMILIES if f not in MAPPED], ids=str)
def test_families_without_text_run_as_they_do(family: Family) -> None:
    pipeline = family.build()
    plain, before = family.run(pipeline), fingerprint(pipeline)
    made = generate(family.wrapped(pipeline), family.request()).images[0]
    np.testing.assert_array_equal(np.asarray(made.convert("RGB")), plain)
    assert fingerprint(pipeline) == before


@pytest.mark.parametrize("family", NAMED, ids=str)
def test_a_batch_of_prompts_and_images(family: Family) -> None:
    model = family.wrapped()
    first = family.request(images=2)
    other = first.with_(prompt="a dog on the left", seed=5, images=1)
    together = sfumato.explain(model, [first, other])
    alone = [sfumato.explain(model, one) for one in (first.with_(images=1), first.with_(seed=1, images=1), other)]
    maps = [*together[0].tree["words"]["map"].values, together[1].tree["words"]["map"].values]
    for batched, single in zip(maps, alone, strict=True):
        torch.testing.assert_close(
            torch.tensor(batched),
            torch.tensor(single.tree["words"]["map"].values),
            atol=2e-4,
            rtol=1e-2,
            equal_nan=True,
        )
