"""What code stores while it runs, read from its bytecode: state of a run, which is no setting."""

from __future__ import annotations

import dis
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from types import CodeType, FunctionType, MethodType
from typing import Any

from torch import nn

_known: weakref.WeakKeyDictionary[type, dict[tuple[str, ...], frozenset[str]]] = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class Stored:
    """What a function stores.

    Attributes:
        attributes: Names of attributes, of any object.
        keys: Constant keys of mappings.
        variables: Global variables, and those of an enclosing function.
    """

    attributes: frozenset[str]
    keys: frozenset[str]
    variables: frozenset[str]


def stored_by(function: Any) -> Stored:
    """What a function, with those that it wraps, stores; nothing where its code is not Python's."""
    parts = [_stored_in(code) for code in codes_of(function)]
    return Stored(
        frozenset().union(*(part.attributes for part in parts)),
        frozenset().union(*(part.keys for part in parts)),
        frozenset().union(*(part.variables for part in parts)),
    )


@lru_cache(maxsize=20_000)
def _stored_in(code: CodeType) -> Stored:
    attributes, keys, variables = set(), set(), set()
    before: dis.Instruction | None = None
    for step in dis.get_instructions(code):
        if step.opname in {"STORE_ATTR", "DELETE_ATTR"}:
            attributes.add(str(step.argval))
        elif step.opname in {"STORE_GLOBAL", "STORE_DEREF"}:
            variables.add(str(step.argval))
        elif step.opname == "STORE_SUBSCR" and before is not None and isinstance(before.argval, str):
            keys.add(before.argval)
        before = step
    return Stored(frozenset(attributes), frozenset(keys), frozenset(variables))


def attributes_of_a_run(kind: type, entries: tuple[str, ...]) -> frozenset[str]:
    """Names of the attributes that some methods of a class store, with all methods that these may call.

    Args:
        kind: The class.
        entries: The methods by which a run enters; those that the class does not have are passed over.
    """
    known = _known.setdefault(kind, {})
    if entries not in known:
        stored: set[str] = set()
        seen: set[str] = set()
        waiting = list(entries)
        while waiting:
            name = waiting.pop()
            if name in seen or name == "__init__":
                continue
            seen.add(name)
            owner = next((base for base in kind.__mro__ if name in vars(base)), nn.Module)
            if owner is nn.Module:  # what it stores is plumbing
                continue
            method = vars(owner)[name]
            stored |= stored_by(method).attributes
            waiting += [used for code in codes_of(method) for used in code.co_names]
        known[entries] = frozenset(stored)
    return known[entries]


def codes_of(function: Any) -> tuple[CodeType, ...]:
    """The code of a function, a method, a property or a partial, with what decorators wrapped and what is inside."""
    return tuple(dict.fromkeys(_codes(function, set())))


def _codes(function: Any, seen: set[int]) -> Iterator[CodeType]:
    if id(function) in seen:
        return
    seen.add(id(function))
    if isinstance(function, property):
        for part in (function.fget, function.fset):
            yield from _codes(part, seen)
    elif isinstance(function, staticmethod | classmethod | MethodType):
        yield from _codes(function.__func__, seen)
    elif isinstance(function, partial):
        yield from _codes(function.func, seen)
    elif isinstance(function, FunctionType):
        yield from _nested(function.__code__)
        yield from _codes(getattr(function, "__wrapped__", None), seen)
        for cell in function.__closure__ or ():
            try:
                yield from _codes(cell.cell_contents, seen)
            except ValueError:  # a variable that was not assigned yet
                continue


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)
