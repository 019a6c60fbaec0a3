"""Every temporary hook of the library goes through one stack, so whatever happens all of them are removed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn


class Hooks:
    """Registers hooks on modules for the lifetime of one run."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def before(self, module: nn.Module, see: Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], Any]) -> None:
        """Call ``see(module, args, kwargs)`` before each forward of a module."""
        self._stack.callback(module.register_forward_pre_hook(see, with_kwargs=True).remove)

    def after(self, module: nn.Module, see: Callable[[nn.Module, Any, Any, Any], Any], *, always: bool = False) -> None:
        """Call ``see(module, args, kwargs, output)`` after each forward; with ``always`` also after one that failed."""
        self._stack.callback(module.register_forward_hook(see, with_kwargs=True, always_call=always).remove)

    def finally_(self, undo: Callable[[], Any]) -> None:
        """Call ``undo`` when the run is over, however it ends."""
        self._stack.callback(undo)


@contextmanager
def temporary_hooks() -> Iterator[Hooks]:
    """Open a stack of hooks and remove all of them at the end, in reverse order."""
    with ExitStack() as stack:
        yield Hooks(stack)
