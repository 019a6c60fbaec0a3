"""The identity of a model: whatever changes the image changes it, undoing that restores it, and a run leaves it."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor
from peft import LoraConfig
from torch import nn

import sfumato
from sfumato.caching.cache import digest
from sfumato.models.identity import identity
from sfumato.models.model import Model, modules_of
from sfumato.models.settings import Settings
from tests.families import FAMILIES, Family, family
from tests.pipelines import stable_diffusion

# diffusers and transformers turn tensors into arrays in a way that NumPy 2 is going to drop
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight:UserWarning"),  # under autocast
]
FAST = "Stable Diffusion"
SOME = {"Stable Diffusion XL, IP-Adapter", "Flux dev", "PixArt alpha", "Kandinsky 2.2, decoder", "DDPM"}
"""The families least like each other, which the slow tests look at; the rest is looked at by those that soak."""
Change = Callable[[Model], AbstractContextManager[None]]


def key(model: Model) -> str:
    return digest(identity(model))


def attention(network: nn.Module) -> Any:
    return next(module for module in network.modules() if hasattr(module, "processor") and hasattr(module, "to_q"))


@contextmanager
def hook(model: Model, factor: float = 0.5) -> Iterator[None]:
    layer = next(module for module in model.denoiser.modules() if isinstance(module, nn.Linear))
    handle = layer.register_forward_hook(lambda module, given, output: output * factor)
    yield
    handle.remove()


@contextmanager
def hook_before(model: Model) -> Iterator[None]:
    layer = next(module for module in model.denoiser.modules() if isinstance(module, nn.Linear))
    with layer.register_forward_pre_hook(lambda module, given: (given[0] * 0.5, *given[1:])):
        yield


class Wrapping:
    """A processor of a user's own: another one's output, multiplied."""

    def __init__(self, inner: Any, factor: float) -> None:
        self.inner, self.factor, self.calls = inner, factor, 0

    def __call__(self, attn: Any, hidden_states: Any, *more: Any, **named: Any) -> Any:
        self.calls += 1
        made = self.inner(attn, hidden_states, *more, **named)
        return tuple(one * self.factor for one in made) if isinstance(made, tuple) else made * self.factor


@contextmanager
def processor(model: Model, factor: float = 0.5) -> Iterator[None]:
    module = attention(model.denoiser)
    own = module.processor
    module.processor = Wrapping(own, factor)
    yield
    module.processor = own


@contextmanager
def options_of_a_processor(model: Model) -> Iterator[None]:
    module = attention(model.denoiser)
    own = module.processor
    module.processor = Wrapping(own, 0.5)
    first = key(model)
    module.processor.factor = 0.25
    assert key(model) != first
    yield
    module.processor = own


@contextmanager
def autocast(model: Model) -> Iterator[None]:
    with torch.autocast("cpu", torch.bfloat16):
        yield


@contextmanager
def forward_of_a_module(model: Model) -> Iterator[None]:
    layer: Any = next(module for module in model.denoiser.modules() if isinstance(module, nn.Linear))
    own = layer.forward
    layer.forward = lambda given: own(given) * 0.5
    yield
    del layer.forward


@contextmanager
def attribute_of_modules(model: Model) -> Iterator[None]:
    """As tomesd does: one dictionary, which a hook fills during the run, and blocks that read it."""
    network: Any = model.denoiser
    network._info = {"size": None, "factor": 0.5}

    def note(module: Any, given: Any) -> None:
        module._info["size"] = tuple(model.denoiser.parameters().__next__().shape)

    def scale(module: Any, given: Any, output: Any) -> Any:
        return output * network._info["factor"]

    layer = next(module for module in network.modules() if isinstance(module, nn.Linear))
    with network.register_forward_pre_hook(note), layer.register_forward_hook(scale):
        first = key(model)
        network._info["factor"] = 0.25
        assert key(model) != first
        yield
    del network._info


@contextmanager
def buffer(model: Model) -> Iterator[None]:
    """A buffer that no file of weights holds, written to in place."""
    for network in modules_of(model.pipeline).values():
        for module in network.modules():
            for name in module._non_persistent_buffers_set:
                values = module._buffers[name]
                if values is not None and values.is_floating_point():
                    own = values.clone()
                    values.mul_(0.5)
                    yield
                    values.copy_(own)
                    return
    yield


@contextmanager
def weights_past_their_version(model: Model) -> Iterator[None]:
    weight = next(module for module in model.denoiser.modules() if isinstance(module, nn.Linear)).weight
    own = weight.detach().clone()
    weight.data.mul_(0.5)
    yield
    weight.data.copy_(own)


@contextmanager
def setting_of_the_scheduler(model: Model) -> Iterator[None]:
    scheduler = model.pipeline.scheduler
    if hasattr(scheduler, "set_shift"):
        own = scheduler.shift
        scheduler.set_shift(own + 1.5)
        yield
        scheduler.set_shift(own)
        return
    own = scheduler.alphas_cumprod
    scheduler.alphas_cumprod = own * 0.9
    yield
    scheduler.alphas_cumprod = own


@contextmanager
def configuration_of_the_scheduler(model: Model) -> Iterator[None]:
    own = model.pipeline.scheduler
    steps = own.config.num_train_timesteps
    model.pipeline.scheduler = type(own).from_config(own.config, num_train_timesteps=steps // 2)
    yield
    model.pipeline.scheduler = own


@contextmanager
def scaling_of_latents(model: Model) -> Iterator[None]:
    network = next((part for part in modules_of(model.pipeline).values() if "scaling_factor" in dir(part.config)), None)
    if network is None:
        yield
        return
    own = network.config.scaling_factor
    network.register_to_config(scaling_factor=own * 0.5)
    yield
    network.register_to_config(scaling_factor=own)


@contextmanager
def image_processor(model: Model) -> Iterator[None]:
    part = getattr(model.pipeline, "image_processor", None)
    if part is None:
        yield
        return
    own = part.config.do_normalize
    part.register_to_config(do_normalize=not own)
    yield
    part.register_to_config(do_normalize=own)


@contextmanager
def method_of_the_pipeline(model: Model) -> Iterator[None]:
    """A function of the user's own in the place of one of the scheduler's."""
    scheduler = model.pipeline.scheduler
    own = scheduler.set_timesteps

    def reversed_in(*given: Any, **named: Any) -> Any:
        made = own(*given, **named)
        scheduler.timesteps = scheduler.timesteps.clone()
        scheduler.timesteps[-1] += 1
        return made

    scheduler.set_timesteps = reversed_in
    yield
    del scheduler.set_timesteps


@contextmanager
def method_of_a_class(model: Model) -> Iterator[None]:
    kind: Any = type(attention(model.denoiser))
    own = kind.forward

    def forward(self: Any, *given: Any, **named: Any) -> Any:
        made = own(self, *given, **named)
        return tuple(one * 0.5 for one in made) if isinstance(made, tuple) else made * 0.5

    kind.forward = forward
    yield
    kind.forward = own


@contextmanager
def plain_attention(model: Model) -> Iterator[None]:
    modules = [module for module in model.denoiser.modules() if type(module) is Attention]
    own = [module.processor for module in modules]
    for module in modules:
        if type(module.processor).__name__ == "AttnProcessor2_0":
            module.set_processor(AttnProcessor())
    yield
    for module, one in zip(modules, own, strict=True):
        module.processor = one


CHANGES: tuple[Change, ...] = (
    hook,
    hook_before,
    processor,
    options_of_a_processor,
    autocast,
    forward_of_a_module,
    attribute_of_modules,
    buffer,
    weights_past_their_version,
    setting_of_the_scheduler,
    configuration_of_the_scheduler,
    scaling_of_latents,
    image_processor,
    method_of_the_pipeline,
    method_of_a_class,
    plain_attention,
)
ELSEWHERE = ("offload", "xformers", "npu", "checkpointing", "require_grads", "lora", "adapters", "parallelism", "cache")
"""What needs another machine or package, or concerns derivatives alone."""
GIVEN: dict[str, dict[str, Any]] = {
    "enable_freeu": {"s1": 0.9, "s2": 0.2, "b1": 1.2, "b2": 1.4},
    "enable_attention_slicing": {"slice_size": 1},
    "enable_forward_chunking": {"chunk_size": 1},
}


def switches(model: Model) -> list[tuple[str, Callable[[], Any], Callable[[], Any]]]:
    """All pairs of methods that switch something on and off, of the pipeline and of its networks."""
    found = []
    for place, part in {"pipeline": model.pipeline, **modules_of(model.pipeline)}.items():
        pairs = [(name, f"disable_{name[7:]}") for name in dir(part) if name.startswith("enable_")]
        pairs += [(name, f"un{name}") for name in dir(part) if name.startswith("fuse_qkv")]
        for on, off in pairs:
            if hasattr(part, off) and not any(word in on for word in ELSEWHERE):
                needed = [
                    name
                    for name, one in inspect.signature(getattr(part, on)).parameters.items()
                    if one.default is inspect.Parameter.empty and one.kind is not inspect.Parameter.VAR_KEYWORD
                ]
                if set(needed) <= GIVEN.get(on, {}).keys():
                    given = GIVEN.get(on, {})
                    found.append(
                        (f"{place}.{on}", lambda p=part, o=on, g=given: getattr(p, o)(**g), getattr(part, off))
                    )
    return found


def run(tiny: Family, model: Model) -> Any:
    """The image, or that the pipeline cannot run in this way."""
    try:
        return tiny.run(model.pipeline)
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError):
        return None


def differs(one: Any, other: Any) -> bool:
    return one is not None and not np.array_equal(one, other)


def tier(one: Family) -> tuple[pytest.MarkDecorator, ...]:
    return () if one.name == FAST else (pytest.mark.slow if one.name in SOME else pytest.mark.soak,)


@pytest.mark.parametrize("tiny", [pytest.param(one, id=str(one), marks=tier(one)) for one in FAMILIES])
def test_what_changes_the_image_changes_the_identity(tiny: Family) -> None:
    model = tiny.wrapped()
    first, plain = key(model), tiny.run(model.pipeline)
    assert key(model) == first, "a run changed it"
    effective = []
    for change in CHANGES:
        if model.denoiser is None or (change in (processor, options_of_a_processor) and not _has_attention(model)):
            continue
        with change(model):
            changed = key(model)
            made = run(tiny, model)
            assert key(model) == changed, f"a run changed it: {change.__name__}"
        if differs(made, plain):
            effective.append(change.__name__)
            assert changed != first, f"not noticed: {change.__name__}"
        assert key(model) == first, f"not undone: {change.__name__}"
    np.testing.assert_array_equal(tiny.run(model.pipeline), plain)
    for name in [name for name, _, _ in switches(model)]:
        on, off = next((on, off) for known, on, off in switches(model) if known == name)
        try:
            on()
        except (ValueError, NotImplementedError, AttributeError, RuntimeError, ImportError):
            model = tiny.wrapped()
            continue
        changed = key(model)
        if differs(run(tiny, model), plain):
            effective.append(name)
            assert changed != first, f"not noticed: {name}"
        off()
        if key(model) != first:  # diffusers leaves other processors or hooks than there were, in some pipelines
            assert tiny.name != FAST or "qkv" in name, f"not undone: {name}"
            model = tiny.wrapped()
            assert key(model) == first
    assert len(effective) >= 8, effective


def _has_attention(model: Model) -> bool:
    return any(hasattr(module, "processor") and hasattr(module, "to_q") for module in model.denoiser.modules())


def test_explaining_leaves_it() -> None:
    tiny = family(FAST)
    model = tiny.wrapped()
    first = key(model)
    for method in ("daam", "ovam"):
        sfumato.explain(model, tiny.request(), method, **({"text": ("dog",)} if method == "ovam" else {}))
        assert key(model) == first


def test_adapters_that_are_off_scaled_or_merged_are_other_models() -> None:
    tiny = family(FAST)
    model = tiny.wrapped()
    pipeline = model.pipeline
    plain = key(model)
    pipeline.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False), "one")
    on, image = key(model), tiny.run(pipeline)
    assert on != plain
    pipeline.disable_lora()
    off = key(model)
    assert off != on
    assert differs(tiny.run(pipeline), image)
    pipeline.enable_lora()
    assert key(model) == on
    pipeline.unet.set_adapters(["one"], weights=[0.3])
    assert key(model) not in (on, off)
    pipeline.unet.set_adapters(["one"], weights=[1.0])
    assert key(model) == on
    pipeline.fuse_lora(components=["unet"])
    assert key(model) not in (on, off)


def test_hooks_are_known_by_their_code_and_by_what_they_read() -> None:
    tiny = family(FAST)
    model = tiny.wrapped()
    keys = [key(model)]
    for change in (lambda: hook(model, 0.5), lambda: hook(model, 0.25), lambda: hook_before(model)):
        with change():
            keys.append(key(model))
    assert len(set(keys)) == len(keys)
    with hook(model, 0.5):
        assert key(model) == keys[1]
    with ExitStack() as stack:
        stack.enter_context(nn.modules.module.register_module_forward_hook(lambda module, given, output: None))
        assert key(model) not in keys
    assert key(model) == keys[0]


def test_a_count_that_a_hook_keeps_is_no_setting_and_what_it_collects_is() -> None:
    tiny = family(FAST)
    model = tiny.wrapped()
    calls = 0
    seen: list[int] = []

    def count(module: nn.Module, given: Any, output: Any) -> None:
        nonlocal calls
        calls += 1

    def collect(module: nn.Module, given: Any, output: Any) -> None:
        seen.append(1)

    for watch, same in ((count, True), (collect, False)):
        with model.denoiser.register_forward_hook(watch):
            before = key(model)
            tiny.run(model.pipeline)
            assert (key(model) == before) is same
    assert calls == len(seen) > 0


def test_offloading_is_no_setting() -> None:
    from accelerate.hooks import AlignDevicesHook, add_hook_to_module, remove_hook_from_module

    model = family(FAST).wrapped()
    first = key(model)
    add_hook_to_module(model.denoiser, AlignDevicesHook(execution_device="cpu"))
    assert key(model) == first
    remove_hook_from_module(model.denoiser)
    assert key(model) == first


def test_a_safety_checker_is_part_of_it() -> None:
    pipeline = stable_diffusion()
    model = sfumato.wrap(pipeline)
    first = key(model)
    pipeline.safety_checker = nn.Linear(2, 2)
    assert key(model) != first


class Loop:
    """An object that refers to itself, with attributes of every plain kind."""

    __slots__ = ("__dict__", "slot")

    def __init__(self, slot: int = 1) -> None:
        self.own, self.slot, self.names = self, slot, {"a", "b", "c"}
        self.values = {"x": [1, 2.5, None, torch.float16], 3: torch.ones(2), "f": max, "g": key}


def test_objects_are_described_by_what_they_hold() -> None:
    assert Settings().of(Loop()) == Settings().of(Loop())
    assert Settings().of(Loop(2)) != Settings().of(Loop())
    json.dumps(Settings().of([Loop(), Loop, Loop().__init__, torch.zeros(2, dtype=torch.complex64).conj()]))


SCRIPT = """
import json, sfumato
from sfumato.models.identity import identity
from tests.models.test_identity import hook, options_of_a_processor
from tests.families import family
model = family("Stable Diffusion").wrapped()
with hook(model), options_of_a_processor(model):
    print(json.dumps(identity(model), sort_keys=True))
"""


@pytest.mark.slow
def test_it_is_the_same_in_every_process() -> None:
    made = [
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", SCRIPT],
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert made[0] == made[1]


def test_a_method_that_a_library_adds_to_the_class_of_another_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Transformers adds one to `torch.nn.Module` when it first builds a model: keys would depend on what ran before."""

    def added(module: nn.Module) -> nn.Module:
        return module

    model = sfumato.wrap(stable_diffusion())
    before = key(model)
    added.__module__ = "transformers.modeling_utils"
    monkeypatch.setattr(nn.Module, "added", added, raising=False)
    assert key(model) == before
    with monkeypatch.context() as own:
        own.setattr(nn.Module, "added", lambda module: module)
        assert key(model) != before
    assert key(model) == before


def test_what_was_compiled_before_in_the_process_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch wraps methods of `torch.nn.Module` when it first compiles something, as flex attention does."""
    from torch._dynamo.mutation_guard import install_generation_tagging_init

    model = sfumato.wrap(stable_diffusion())
    before = key(model)
    for name in ("__init__", "__setstate__"):
        monkeypatch.setattr(nn.Module, name, getattr(nn.Module, name))
    monkeypatch.setattr(nn.Module, "___needs_generation_tag_patch", True, raising=False)
    own = nn.Module.__init__
    install_generation_tagging_init()
    assert nn.Module.__init__ is not own
    assert key(model) == before

    def other(module: nn.Module) -> None:
        own(module)
        module.other = True

    with monkeypatch.context() as patch:
        patch.setattr(nn.Module, "__init__", other)
        assert key(model) != before
    assert key(model) == before
