"""Settings of objects as JSON: what modules, processors, hooks and pipelines carry beside their weights.

Everything counts that is not known to be the state of a run. So a setting that nobody thought of is noticed, and what
is unknown costs at worst a run that could have been spared. The state of a run is what the object's own code stores
during one (`sfumato.models.stored`): the next run sets it anew. Nothing depends on the process: no address, no order
of a set, no number of a hook.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import sys
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from enum import Enum
from functools import partial
from pathlib import PurePath
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.hooks import RemovableHandle

from sfumato.models.stored import attributes_of_a_run, codes_of, stored_by

RUN = ("__call__", "forward", "encode", "decode", "set_timesteps", "step", "scale_model_input", "set_begin_index")
"""The methods by which a run enters a pipeline, a network, a processor or a scheduler."""
RUN_OF_HOOKS = ("new_forward", "pre_forward", "post_forward", "reset_state")
"""Those of the hooks of diffusers."""
HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
OWN = frozenset(vars(nn.Module()))
"""What every module has: weights, parts and hooks, which are counted by themselves."""
NOT_COUNTED = {
    # where a part was loaded from, and what configurations note of their files
    *("_name_or_path", "name_or_path", "base_model_name_or_path", "_commit_hash"),
    *("_class_name", "_diffusers_version", "_use_default_values", "transformers_version"),
    # what libraries note of a run, of loading, and of where weights are
    *("_progress_bar_config", "_is_hf_initialized", "_output_capturing_hooks_installed"),
    *("_hf_hook", "_old_forward", "_diffusers_hook", "hf_device_map"),
}
INSTALLED = {"torch", "diffusers", "transformers", "accelerate", "peft", "numpy", "sfumato", *sys.stdlib_module_names}
"""Packages whose functions are known by their code alone, without the globals that it reads."""
STATELESS = (RemovableHandle, torch.Generator, weakref.ref, logging.Logger)
"""What changes with every run, or is nothing that an image depends on."""
DYNAMO = "torch._dynamo"
"""Of PyTorch: what compiles, and wraps methods of its own classes to notice changes."""
JSON = {bool, int, str, type(None)}
EXACT = (bool, int, float, complex, str, bytes, type(None), np.generic, torch.dtype, torch.device, torch.layout)


class Settings:
    """Describes objects; one serves for one look at a model, while nothing changes.

    Args:
        names: Parts with names of their own, by which others that refer to them are described.
    """

    def __init__(self, names: Sequence[tuple[Any, str]] = ()) -> None:
        self._names = {id(part): (part, name) for part, name in names}
        self._known: dict[int, tuple[Any, Any]] = {}  # with the objects, so that no id is given to another one
        self._classes: dict[type, Any] = {}
        self._runs: dict[type, frozenset[str]] = {}
        self._written: dict[int, frozenset[str]] = {}

    def of(self, value: Any) -> Any:
        """A value as JSON; an object, a function or a class is a digest, a named part its name."""
        if type(value) in JSON:
            return value
        if isinstance(value, EXACT) and not isinstance(value, Enum):
            return repr(value)
        if id(value) in self._names:
            return ["part", self._names[id(value)][1]]
        if id(value) not in self._known:
            self._known[id(value)] = value, "within itself"
            self._known[id(value)] = value, self._described(value)
        return self._known[id(value)][1]

    def of_part(self, part: Any) -> Any:
        """What a component of a pipeline carries that is no network."""
        return self._described(part)

    def of_network(self, modules: Mapping[str, nn.Module]) -> str:
        """What all modules of a network carry, by name."""
        for module in modules.values():
            if hooks := _hooks(module):
                self._note_what_hooks_write(module, hooks)
        return _digest([[name, self._module(module)] for name, module in modules.items()])

    def of_pipeline(self, pipeline: Any) -> str:
        """What a pipeline carries beside its components."""
        return _digest(self._state(pipeline, frozenset(pipeline.components)))

    def _described(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor | np.ndarray | Image.Image):
            return numbers_of(value)
        if isinstance(value, Mapping):
            return self._entries(value)
        if isinstance(value, list | tuple | deque):
            return [self.of(one) for one in value]
        if isinstance(value, AbstractSet):
            return sorted((self.of(one) for one in value), key=json.dumps)
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, FunctionType):
            return self._function(value)
        if isinstance(value, MethodType):
            return [self.of(value.__func__), self._owner(value)]
        if isinstance(value, partial):
            return ["partial", self.of(value.func), self.of(value.args), self.of(value.keywords)]
        if isinstance(value, nn.Module):  # one that is no part of the pipeline
            weights = {name: numbers_of(tensor) for name, tensor in value.state_dict().items()}
            return [_digest(weights), *(self._module(module) for module in value.modules())]
        if isinstance(value, STATELESS) or _comes_from(type(value), "accelerate"):
            return None
        if isinstance(value, Enum):
            return [type(value).__qualname__, value.name]
        if isinstance(value, BuiltinFunctionType | ModuleType):
            return [getattr(value, "__module__", None), value.__name__]
        if isinstance(value, PurePath | re.Pattern | range | slice):
            return repr(value)
        return _digest(self._state(value))

    def _entries(self, value: Mapping[Any, Any]) -> list[Any]:
        hidden = self._written.get(id(value), frozenset()) | NOT_COUNTED
        found = [[self.of(name), self.of(one)] for name, one in value.items() if name not in hidden]
        return sorted(found, key=lambda entry: json.dumps(entry[0]))

    def _state(self, value: Any, written: frozenset[str] = frozenset()) -> Any:
        """The class of an object, and its attributes without those that a run writes."""
        kind = type(value)
        if _comes_from(kind, DYNAMO) or kind.__name__ == "StateManager":  # made by runs
            return kind.__qualname__
        slots = {name for base in kind.__mro__ for name in _listed(vars(base).get("__slots__", ()))}
        own = {name: getattr(value, name) for name in slots if hasattr(value, name)} | getattr(value, "__dict__", {})
        return [self._class(kind), self._attributes(kind, own, written | self._run_of(kind))]

    def _attributes(self, kind: type, own: Mapping[str, Any], hidden: frozenset[str]) -> dict[str, Any]:
        """Attributes that count; where something was switched off, some stand for what the class has and count not."""
        return {
            name: self.of(one)
            for name, one in own.items()
            if name not in hidden and name not in NOT_COUNTED and not _is_of_class(kind, name, one)
        }

    def _owner(self, method: MethodType) -> Any:
        """The object of a bound method, without what the method writes into it."""
        if id(method.__self__) in self._names or isinstance(method.__self__, type):
            return self.of(method.__self__)
        return _digest(self._state(method.__self__, stored_by(method).attributes))

    def _module(self, module: nn.Module) -> Any:
        """One module without its parts and weights."""
        kind, own = type(module), vars(module)
        hooks, plumbing = _hooks(module), _plumbing(own)
        hidden = OWN | self._run_of(kind)
        if hooks:
            hidden = hidden.union(*(stored_by(hook).attributes for _, hook, _ in hooks))
        if plumbing:  # which has put its own function in the place of forward
            hidden = hidden | {"forward"}
        around = [self.of(one) for one in plumbing if not _comes_from(type(one), "accelerate")]
        if plumbing and isinstance(forward := own.get("_old_forward"), FunctionType | partial):
            around.append(self.of(forward))
        return [
            self._class(kind),
            self._attributes(kind, own, hidden),
            [[group, self.of(hook), with_kwargs] for group, hook, with_kwargs in hooks],
            around,
        ]

    def _note_what_hooks_write(self, module: nn.Module, hooks: Sequence[tuple[str, Any, bool]]) -> None:
        """Entries that a module's hooks write into its mappings, wherever these are shared: the state of a run."""
        keys = frozenset[str]().union(*(stored_by(hook).keys for _, hook, _ in hooks))
        for one in vars(module).values():
            if isinstance(one, dict):
                self._written[id(one)] = self._written.get(id(one), frozenset()) | keys

    def _function(self, function: FunctionType) -> Any:
        """Name and code, and what the code reads: defaults, enclosing variables, and globals where they are plain."""
        name = [function.__module__, function.__qualname__]
        if _comes_from(function, DYNAMO):
            return name
        written = stored_by(function).variables
        read: dict[str, Any] = {}
        for free, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            if free not in written:
                try:
                    read[free] = self.of(cell.cell_contents)
                except ValueError:  # not assigned yet
                    read[free] = None
        if not _installed(function):
            used = {used for code in codes_of(function) for used in code.co_names} - written
            read |= {one: self._global(function.__globals__[one]) for one in used & function.__globals__.keys()}
        return _digest([name, _code(function), self.of(function.__defaults__), self.of(function.__kwdefaults__), read])

    def _global(self, value: Any) -> Any:
        plain = isinstance(value, (*EXACT, list, tuple, set, frozenset, dict, torch.Tensor, np.ndarray, partial))
        return self.of(value) if plain or (isinstance(value, FunctionType) and not _installed(value)) else None

    def _class(self, kind: type) -> Any:
        """Name of a class, the code of its methods and its plain attributes, with those of its bases."""
        if kind not in self._classes:
            self._classes[kind] = [kind.__module__, kind.__qualname__]  # for functions that name it
            self._classes[kind] = _digest([kind.__module__, kind.__qualname__, [self._base(b) for b in kind.__mro__]])
        return self._classes[kind]

    def _base(self, base: type) -> str:
        if not _installed(base):
            return _digest({name: self.of(one) for name, one in vars(base).items() if _is_plain_or_code(name, one)})
        seen, found = _installed_classes.get(base, ({}, ""))
        if len(seen) != len(vars(base)) or any(seen.get(name) is not one for name, one in vars(base).items()):
            shown = {
                name: repr(one) if isinstance(one, EXACT) else _code(_uncompiled(base, one))
                for name, one in vars(base).items()
                if _is_plain_or_code(name, one) and not _added_by_another_library(base, one)
            }
            found = _digest(shown)
            _installed_classes[base] = dict(vars(base)), found
        return found

    def _run_of(self, kind: type) -> frozenset[str]:
        if kind not in self._runs:
            entries = RUN + RUN_OF_HOOKS if _comes_from(kind, "diffusers.hooks") else RUN
            self._runs[kind] = attributes_of_a_run(kind, entries)
        return self._runs[kind]


_installed_classes: weakref.WeakKeyDictionary[type, tuple[dict[str, Any], str]] = weakref.WeakKeyDictionary()


def numbers_of(value: Any) -> list[Any]:
    """Type, shape and digest of the numbers of a tensor, an array or a picture."""
    if isinstance(value, torch.Tensor):
        if value.device.type == "meta":
            return [str(value.dtype), list(value.shape)]
        plain = value.detach().resolve_conj().resolve_neg().to("cpu").contiguous().flatten().view(torch.uint8).numpy()
        return [str(value.dtype), list(value.shape), hashlib.sha256(plain.data).hexdigest()]
    pixels = np.ascontiguousarray(value)
    return [str(pixels.dtype), list(pixels.shape), hashlib.sha256(pixels.tobytes()).hexdigest()]


def _hooks(module: nn.Module) -> list[tuple[str, Any, bool]]:
    """Group, function and whether it takes keyword arguments, of all hooks but those by which transformers collects."""
    if not (module._forward_pre_hooks or module._forward_hooks or module._backward_pre_hooks or module._backward_hooks):
        return []
    keyed = {*module._forward_hooks_with_kwargs, *module._forward_pre_hooks_with_kwargs}
    return [
        (group, hook, number in keyed)
        for group in HOOKS
        for number, hook in getattr(module, group).items()
        if not _comes_from(hook, "transformers.utils.output_capturing")
    ]


def _plumbing(own: Mapping[str, Any]) -> list[Any]:
    """What accelerate and diffusers have put around a module."""
    if "_hf_hook" not in own and "_diffusers_hook" not in own:
        return []
    hook, registry = own.get("_hf_hook"), own.get("_diffusers_hook")
    found = [*getattr(hook, "hooks", (hook,)), *(registry.hooks.values() if registry is not None else ())]
    return [one for one in found if one is not None]


def _is_of_class(kind: type, name: str, value: Any) -> bool:
    """Whether an attribute is as good as absent: None where the class has nothing more, or the class's own method."""
    if value is None:
        return getattr(kind, name, None) is None
    return (
        isinstance(value, MethodType) and type(value.__self__) is kind and value.__func__ is getattr(kind, name, None)
    )


def _is_plain_or_code(name: str, value: Any) -> bool:
    if isinstance(value, FunctionType | property | staticmethod | classmethod):
        return True
    return isinstance(value, EXACT) and not name.startswith("__")


def _added_by_another_library(base: type, value: Any) -> bool:
    """Whether a library has put this method on a class of another one; transformers does so once it builds a model."""
    return (
        isinstance(value, FunctionType)
        and _installed(value)
        and value.__module__.partition(".")[0] != base.__module__.partition(".")[0]
    )


def _uncompiled(base: type, method: Any) -> Any:
    """The method without what PyTorch wraps around it once something is compiled in this process."""
    while isinstance(method, FunctionType) and _comes_from(method, DYNAMO) and not _comes_from(base, DYNAMO):
        inside = [one for cell in method.__closure__ or () for one in _held(cell) if isinstance(one, FunctionType)]
        if not inside:
            break
        method = inside[0]
    return method


def _held(cell: CellType) -> list[Any]:
    """What a cell holds; nothing before it is assigned."""
    try:
        return [cell.cell_contents]
    except ValueError:
        return []


_codes: dict[int, tuple[CodeType, str]] = {}
"""Digests by id, with the code itself, so that no other code gets its id."""


def _code(function: Any) -> list[str]:
    """The digests of what Python compiled from a function, without its lines and file."""
    return [_code_digest(code) for code in codes_of(function)]


def _code_digest(code: CodeType) -> str:
    if id(code) not in _codes:
        constants = [
            sorted(map(repr, one)) if isinstance(one, frozenset) else repr(one)
            for one in code.co_consts
            if not isinstance(one, CodeType)  # stands beside it
        ]
        parts = [code.co_code.hex(), code.co_names, code.co_varnames, code.co_freevars, constants]
        _codes[id(code)] = code, _digest(parts)
    return _codes[id(code)][1]


def _installed(made: Any) -> bool:
    return str(made.__module__).partition(".")[0] in INSTALLED


def _comes_from(made: Any, package: str) -> bool:
    return f"{getattr(made, '__module__', '')}.".startswith(f"{package}.")


def _listed(slots: Any) -> tuple[str, ...]:
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
