from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from diffusers import StableDiffusionPipeline

import sfumato
from sfumato import registry
from sfumato.errors import ModelError, OptionError, SfumatoError, SfumatoWarning, UnknownMethod
from sfumato.generation.generate import generate
from sfumato.registry import find, method
from sfumato.request import Request
from tests.labels import tiny_unconditional

Register = Callable[..., Any]
BUILT_IN = sorted(one.name for one in registry.methods())


@dataclass(frozen=True)
class Options:
    size: int = 3


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    registry.methods()
    monkeypatch.setattr(registry._methods, "_entries", dict(registry._methods._entries))


def register(name: str, needs: tuple[str, ...] = ()) -> None:
    @method(name, summary="s", options=Options, needs=needs, cost=lambda model, request, options: "nothing", paper="p")
    def explain(model: Any, requests: Any, options: Options, progress: Any) -> list[Any]:
        return [generate(model, requests).explanation(i, {}) for i in range(len(requests))]


HALF = np.arange(128) < 64
LEAST: dict[str, dict[str, Any]] = {
    "ablation": {"sweep": ("mid_block",)},
    "gradient_volume": {"mask": np.broadcast_to(HALF, (128, 128))},
    "switch": {"to": "b"},
}
"""What some methods must be told."""


@pytest.mark.parametrize("known", registry.methods(), ids=lambda m: m.name)
def test_every_method_says_what_it_is(known: registry.Method) -> None:
    assert find(known.name) is known
    assert known.summary
    assert known.paper
    assert isinstance(known.needs, frozenset)
    defaults = known.configure({})
    model = sfumato.load("studio/scenes")
    least = known.configure(LEAST.get(known.name, {}))
    cost = known.cost(model, model.complete(Request("a", steps=20)), least)
    assert re.search(r"denoiser call|backward pass", cost), (
        f"the cost of {known.name} names no denoiser calls; begin it with sfumato.methods.costs.runs(model, request)"
    )
    for option in fields(known.options):
        assert option.metadata.get("help"), f"{known.name}: say what {option.name} does"
    with pytest.raises(AttributeError):
        setattr(defaults, fields(known.options)[0].name, None)


def test_a_method_stands_in_the_module_of_its_name() -> None:
    """So a method that is named is found without importing the others, and no list has to be kept."""
    assert len(BUILT_IN) >= 18
    for known in registry.methods():
        assert find_spec(f"sfumato.methods.{known.name}"), known.name
        assert registry.find(known.name) is known


def test_a_name_is_taken_once() -> None:
    register("mine")
    with pytest.raises(SfumatoError, match="a method named 'mine' is registered already; choose another name"):
        register("mine")
    with pytest.raises(SfumatoError, match="'daam' is registered already"):
        register("daam")


def test_an_unknown_method_lists_all() -> None:
    register("mine")
    with pytest.raises(UnknownMethod, match=r"there is no method 'dam'; choose from: ablation, .*daam, .*mine"):
        find("dam")


def test_an_unknown_option_lists_the_valid_ones() -> None:
    register("mine")
    assert find("mine").configure({"size": 4}) == Options(4)
    with pytest.raises(OptionError, match="mine has no option 'sise'; its options are: size"):
        find("mine").configure({"size": 4, "sise": 4})


def test_what_a_method_needs_is_checked_before_it_runs(tiny_pipeline: StableDiffusionPipeline) -> None:
    register("mine", needs=("words", "wings", "tail"))
    model = sfumato.wrap(tiny_pipeline)
    with pytest.raises(
        ModelError, match=r"mine needs tail, wings, which StableDiffusionPipeline \(unet\) does not have"
    ):
        sfumato.explain(model, Request("a"), "mine")


def test_of_several_features_one_is_enough(tiny_pipeline: StableDiffusionPipeline) -> None:
    register("told", needs=("words or label",))
    register("lost", needs=("wings or label", "replay"))
    model = sfumato.wrap(tiny_pipeline)
    assert find("told").missing(model) == []
    find("told").check(model)
    assert find("lost").missing(model) == ["wings or label"]
    with pytest.raises(ModelError, match=r"^lost needs wings or label, which .*; methods that fit it: .*\btold\b"):
        find("lost").check(model)


def test_a_model_that_is_told_nothing_is_not_offered_what_takes_something_away() -> None:
    model = sfumato.wrap(tiny_unconditional())
    fit = {known.name for known in registry.methods() if not known.missing(model)}
    assert not fit & {"information", "switch", "shapley"}
    assert fit >= {"profile", "df_rise", "ablation"}
    with pytest.raises(ModelError) as caught:
        find("information").check(model)
    refused = "information needs words or label or reference, which DDPMPipeline (pixel) does not have; "
    assert str(caught.value).startswith(refused)
    assert set(str(caught.value).partition("fit it: ")[2].split(", ")) == fit


def entry(name: str, load: Callable[[], Any]) -> SimpleNamespace:
    return SimpleNamespace(name=name, value=f"package.{name}", load=load)


def offer(monkeypatch: pytest.MonkeyPatch, *entries: SimpleNamespace) -> None:
    def entry_points(*, group: str) -> tuple[SimpleNamespace, ...]:
        assert group == "sfumato.methods"
        return entries

    monkeypatch.setattr(registry, "entry_points", entry_points)


def test_an_installed_package_brings_a_method(
    monkeypatch: pytest.MonkeyPatch, tiny_pipeline: StableDiffusionPipeline
) -> None:
    loaded: list[str] = []

    def load() -> None:
        if not loaded:  # as a module is imported once
            loaded.append("third")
            register("third")

    offer(monkeypatch, entry("third", load))
    assert sorted(m.name for m in registry.methods()) == sorted([*BUILT_IN, "third"])
    request = Request("a", steps=1, guidance=1, height=16, width=16)
    explanation = sfumato.explain(sfumato.wrap(tiny_pipeline), request, "third", size=9)
    assert explanation.provenance["method"] == "third"
    assert explanation.provenance["options"] == {"size": 9}


@pytest.mark.parametrize("error", [ImportError("no module named x"), SfumatoError("a method named 'daam' is ...")])
def test_a_broken_package_leaves_the_others_usable(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def load() -> None:
        raise error

    offer(monkeypatch, entry("broken", load), entry("good", lambda: register("good")))
    with pytest.warns(SfumatoWarning, match=r"method 'broken' \(package.broken\) cannot be loaded and is left out"):
        names = [m.name for m in registry.methods()]
    assert sorted(names) == sorted([*BUILT_IN, "good"])


def test_packages_are_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []

    def entry_points(*, group: str) -> tuple[SimpleNamespace, ...]:
        looked.append(group)
        return ()

    monkeypatch.setattr(registry, "entry_points", entry_points)
    assert [one.name for one in registry.methods()] == [one.name for one in registry.methods()] == BUILT_IN
    assert looked == ["sfumato.methods"]
    register("mine")
    assert "mine" in [one.name for one in registry.methods()]
    monkeypatch.syspath_prepend("elsewhere")  # where other packages may lie
    registry.methods()
    assert len(looked) == 2
