"""Every temporary hook of the library goes through one stack, so whatever happens all of them are removed.

A hook sees what its own run computes. A network that is called meanwhile by another thread, past the queue of
`sfumato.models.turns`, or by a replay inside the run, is neither watched nor changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from threading import local
from typing import Any

from torch import nn


class Hooks:
    """Registers hooks on modules for the lifetime of one run."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def before(self, module: nn.Module, see: Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], Any]) -> None:
        """Call ``see(module, args, kwargs)`` before each forward of a module."""
        self._stack.callback(module.register_forward_pre_hook(self._own(see), with_kwargs=True).remove)

    def after(self, module: nn.Module, see: Callable[[nn.Module, Any, Any, Any], Any], *, always: bool = False) -> None:
        """Call ``see(module, args, kwargs, output)`` after each forward; with ``always`` also after one that failed."""
        self._stack.callback(module.register_forward_hook(self._own(see), with_kwargs=True, always_call=always).remove)

    def finally_(self, undo: Callable[[], Any]) -> None:
        """Call ``undo`` when the run is over, however it ends."""
        self._stack.callback(undo)

    def _own(self, see: Callable[..., Any]) -> Callable[..., Any]:
        def seen(*given: Any) -> Any:
            return see(*given) if _open.runs and _open.runs[-1] is self else None

        return seen


class _Open(local):
    """The runs of this thread that are under way, the innermost last."""

    def __init__(self) -> None:
        self.runs: list[Hooks] = []


_open = _Open()


@contextmanager
def temporary_hooks() -> Iterator[Hooks]:
    """Open a stack of hooks and remove all of them at the end, in reverse order."""
    with ExitStack() as stack:
        hooks = Hooks(stack)
        stack.callback(_open.runs.remove, hooks)
        _open.runs.append(hooks)
        yield hooks
