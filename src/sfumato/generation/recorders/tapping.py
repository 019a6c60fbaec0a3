"""Tapping attention while a model runs: the model's own kernel makes the output, the map is made beside it.

A hook before each attention module enters a ``TorchFunctionMode`` that sees the call of
``scaled_dot_product_attention`` (or the softmax of an explicit processor); a hook after it, called also when the
module fails, leaves the mode again. No processor is replaced and nothing is patched, so the image stays bit-identical.

On a CPU, the kernel that PyTorch would choose is called under its own name, because it then also returns the log of the
sum over all keys that its softmax divides by. The probabilities of a prompt's few tokens follow without the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack, _pop_mode, _push_mode

from sfumato.errors import CannotWatch
from sfumato.generation.context import GenerationContext
from sfumato.generation.hooks import Hooks
from sfumato.generation.recorders.attention import HOW_TO_SWITCH, Attention
from sfumato.models.model import Site

ARGUMENTS = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
SOFTMAXES = frozenset({torch.softmax, torch.Tensor.softmax, F.softmax})

See = Callable[[Attention], None]


def tap_attention(run: GenerationContext, sites: Iterable[Site], see: See) -> None:
    """Call ``see`` for every attention call at the given sites, for as long as the run lasts.

    Raises:
        CannotWatch: At once for a compiled denoiser; during the run when a site computed attention by a way that
            PyTorch's dispatcher does not show (the error names the backend), or over other positions than expected.
    """
    denoiser = run.model.denoiser
    refuse_compiled(denoiser)
    tap = _Tap(see)
    run.hooks.finally_(tap.close)
    frames: dict[str, nn.Module] = {}
    sites = tuple(sites)
    for site in sites:
        if site.frame is None:
            tap.grids[None] = run.model.token_grid(run.requests[0])
        else:
            frames.setdefault(site.frame, denoiser.get_submodule(site.frame))
    for name, frame in frames.items():  # before the sites, one of which may be its own frame
        run.hooks.before(frame, tap.framed(name))
    for site in sites:
        tap.watch(site, denoiser.get_submodule(site.name), run.hooks)


def refuse_compiled(denoiser: nn.Module) -> None:
    """Raise where compiled code would hide the attention.

    Raises:
        CannotWatch: The denoiser or a part of it is compiled.
    """
    if compiled := next(
        (name or "the denoiser" for name, part in denoiser.named_modules() if _is_compiled(part)), None
    ):
        raise CannotWatch(
            f"{compiled} is compiled, so its attention cannot be seen; "
            "load the model without torch.compile to explain it"
        )


class _Tap:
    """The state of one tap: grids of the enclosing feature maps and the attention calls now under way."""

    def __init__(self, see: See) -> None:
        self._see = see
        self.grids: dict[str | None, tuple[int, int]] = {}  # by frame; None for sites whose input is a sequence
        self._open: list[_Mode] = []
        self._seen = 0

    def framed(self, name: str) -> Callable[..., None]:
        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            features = args[0] if args else kwargs["hidden_states"]
            self.grids[name] = (int(features.shape[-2]), int(features.shape[-1]))

        return before

    def watch(self, site: Site, module: nn.Module, hooks: Hooks) -> None:
        def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            features = args[0] if args else kwargs["hidden_states"]
            rows, heads = int(features.shape[0]), int(module.heads)  # type: ignore[arg-type]
            mode = _Mode(site, self.grids[site.frame], rows, heads, self._see)
            self._open.append(mode)
            mode.__enter__()  # type: ignore[no-untyped-call]

        def leave(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            if self._open and self._open[-1].site is site:  # not so when another hook failed before `enter`
                self._seen = self._open[-1].seen
                self._close_last()

        def check(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            if not self._seen:
                processor = type(getattr(module, "processor", module)).__name__
                raise CannotWatch(
                    f"attention at {site.name} ({processor}) does not go through PyTorch's "
                    f"scaled_dot_product_attention or softmax; {HOW_TO_SWITCH}"
                )

        hooks.before(module, enter)
        hooks.after(module, leave, always=True)
        hooks.after(module, check)  # apart from `leave`, which PyTorch also calls, silencing it, after another's error

    def close(self) -> None:
        """Leave what an interruption left open (innermost first)."""
        while self._open:
            self._close_last()

    def _close_last(self) -> None:
        # listed before it is entered and until it is left, so that an interruption at any point finds it
        _leave(self._open[-1])
        self._open.pop()


def _leave(mode: TorchFunctionMode) -> None:
    """Take one mode off the stack and leave those of other watchers, which hooks enter and leave in one same order."""
    stack = _get_current_function_mode_stack()
    place = next((i for i, entered in enumerate(stack) if entered is mode), len(stack))
    for _ in stack[place:]:
        _pop_mode()
    for other in stack[place + 1 :]:
        _push_mode(other)


class _Mode(TorchFunctionMode):
    """Sees the functions that one attention module calls."""

    def __init__(self, site: Site, grid: tuple[int, int], batch: int, heads: int, see: See) -> None:
        super().__init__()
        self.site, self._grid, self._batch, self._heads, self._see = site, grid, batch, heads, see
        self._parts: list[torch.Tensor] = []
        self.seen = 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.scaled_dot_product_attention:
            return self._on_kernel(args, kwargs or {})
        output = func(*args, **(kwargs or {}))
        if func in SOFTMAXES:
            self._on_softmax(output)
        return output

    def _on_kernel(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = dict(zip(ARGUMENTS, args, strict=False)) | kwargs
        scale = given.get("scale") or 1 / math.sqrt(given["query"].shape[-1])
        mask = given.get("attn_mask")
        if _takes_flash(given):
            added = mask if mask is None or mask.dtype != torch.bool else _as_added(mask, given["query"].dtype)
            output, log_sum = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
                given["query"], given["key"], given["value"], 0.0, False, attn_mask=added, scale=given.get("scale")
            )
        else:
            output, log_sum = F.scaled_dot_product_attention(*args, **kwargs), None
        query, key, value, made = (self._by_rows(one) for one in (*(given[name] for name in ARGUMENTS[:3]), output))
        if key.shape[1] != query.shape[1]:  # grouped queries share keys
            key, value = (one.repeat_interleave(query.shape[1] // one.shape[1], 1) for one in (key, value))
        order, self.seen = self.seen, self.seen + 1
        if not self._fits(query.shape[2], key.shape[2], order):
            raise CannotWatch(
                f"attention at {self.site.name} is over {query.shape[2]} queries and {key.shape[2]} keys, which does "
                f"not fit an image of {self._grid[0]} x {self._grid[1]} positions; this pipeline puts something "
                "else beside image and text"
            )
        heads = int(query.shape[1])
        parts = (query, key, mask, scale, log_sum, None, value, made)
        self._see(Attention(self.site, order, self._grid, heads, self._batch, *parts))
        return output

    def _by_rows(self, given: torch.Tensor) -> torch.Tensor:
        """(row, head, position, channel), also where rows and heads are one axis."""
        return given if given.ndim == 4 else given.unflatten(0, (self._batch, -1))

    def _on_softmax(self, probabilities: torch.Tensor) -> None:
        """Explicit processors work on (row x head, query, key); sliced ones show a part of the rows at a time."""
        if probabilities.ndim == 4:
            probabilities = probabilities.flatten(0, 1)
        queries, keys = probabilities.shape[-2:] if probabilities.ndim == 3 else (0, 0)
        if not self._fits(queries, keys, self.seen):
            return
        self._parts.append(probabilities)
        if sum(part.shape[0] for part in self._parts) == self._batch * self._heads:
            whole = torch.cat(self._parts).reshape(self._batch, self._heads, *probabilities.shape[1:])
            self._parts.clear()
            order, self.seen = self.seen, self.seen + 1
            self._see(Attention(self.site, order, self._grid, self._heads, self._batch, _ready=whole))

    def _fits(self, queries: int, keys: int, order: int) -> bool:
        """Whether so many queries and keys can be those of this site, in its first or a later call."""
        positions = self._grid[0] * self._grid[1]
        if self.site.kind == "joint" and not order:
            return queries == keys > positions
        return queries == positions


def _takes_flash(given: dict[str, Any]) -> bool:
    """Whether PyTorch would compute this call by its fused CPU kernel, without dropout or causality.

    Not so where another function mode is active: it must see the call as it was made.
    """
    query, mask = given["query"], given.get("attn_mask")
    if _get_current_function_mode_stack():
        return False
    if query.device.type != "cpu" or query.ndim != 4 or (mask is not None and mask.ndim != 4):
        return False
    if given.get("dropout_p") or given.get("is_causal") or given.get("enable_gqa"):
        return False
    choice = torch._fused_sdp_choice(query, given["key"], given["value"], mask, scale=given.get("scale"))
    return choice == SDPBackend.FLASH_ATTENTION.value


def _as_added(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """What PyTorch adds to scores for a mask of those that are kept."""
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, -math.inf)


def _is_compiled(module: nn.Module) -> bool:
    return getattr(module, "_compiled_call_impl", None) is not None or type(module).__name__ == "OptimizedModule"
