"""Seeing attention while it is computed: the model's own kernel makes the output, the map is made beside it.

A hook before each attention module enters a ``TorchFunctionMode`` that sees the call of
``scaled_dot_product_attention`` (or the softmax of an explicit processor); a hook after it, called also when the
module fails, leaves the mode again. No processor is replaced and nothing is patched, so the image stays bit-identical.

On a CPU, the kernel that PyTorch would choose is called under its own name, because it then also returns the log of the
sum over all keys that its softmax divides by. The probabilities of a prompt's few tokens follow without the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack, _pop_mode, _push_mode

from sfumato.errors import CannotWatch
from sfumato.models.model import Site
from sfumato.watching.hooks import Hooks

ARGUMENTS = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
SOFTMAXES = frozenset({torch.softmax, torch.Tensor.softmax, F.softmax})
CHUNK_BYTES = 8 * 2**20


@dataclass
class Attention:
    """One attention call, as its ingredients; probabilities are computed only for what a watcher asks.

    Attributes:
        site: Where it happened.
        order: 0 for the site's first call in a forward; image-prompt adapters call again, after the text.
        grid: (height, width) of the query positions.
        heads: Number of heads.
        batch: Number of rows of the denoiser's batch.
    """

    site: Site
    order: int
    grid: tuple[int, int]
    heads: int
    batch: int
    _query: torch.Tensor | None = None  # (row, head, query, channel)
    _key: torch.Tensor | None = None  # (row, head, key, channel)
    _mask: torch.Tensor | None = None
    _scale: float = 1.0
    _log_sum: torch.Tensor | None = None  # (row, head, query) log of the sum of exp(score) over the keys
    _ready: torch.Tensor | None = None  # (row, head, query, key), from an explicit processor

    @property
    def keys(self) -> int:
        """Number of key positions (tokens of the context for cross-attention)."""
        if self._ready is not None:
            return self._ready.shape[-1]
        assert self._key is not None
        return self._key.shape[-2]

    @property
    def device(self) -> torch.device:
        """Where it is computed."""
        known = self._ready if self._ready is not None else self._query
        assert known is not None
        return known.device

    def probabilities(self, rows: slice, heads: slice = slice(None), tokens: int | None = None) -> torch.Tensor:
        """Softmax over the keys: (row, head, query, key) in float32, for some rows and heads and the first keys."""
        if self._ready is not None:
            return self._ready[rows, heads, :, :tokens].float()
        assert self._query is not None
        assert self._key is not None
        query = self._query[rows, heads].float() * self._scale
        if self._log_sum is not None:
            scores = torch.matmul(query, self._key[rows, heads, :tokens].float().transpose(-1, -2))
            return (scores - self._log_sum[rows, heads].unsqueeze(-1)).exp()
        return self._scores(rows, heads).softmax(-1)[..., :tokens]

    def both_ways(self, rows: slice, heads: slice = slice(None)) -> tuple[torch.Tensor, torch.Tensor]:
        """Softmax over the keys, and softmax over the queries: each (row, head, query, key) in float32.

        Raises:
            CannotWatch: Only probabilities are known, from an explicit processor: what each query's scores were divided
                by is gone, so queries cannot be compared.
        """
        if self._query is None or self._key is None:
            raise CannotWatch(
                f"attention at {self.site.name} is computed by an explicit softmax, which does not show its scores; "
                "switch to PyTorch's own attention, for example pipeline.unet.set_attn_processor(AttnProcessor2_0())"
            )
        scores = self._scores(rows, heads)
        return scores.softmax(-1), scores.softmax(-2)

    def _scores(self, rows: slice, heads: slice) -> torch.Tensor:
        """Products of queries and keys, scaled and masked: (row, head, query, key) in float32."""
        assert self._query is not None
        assert self._key is not None
        query = self._query[rows, heads].float() * self._scale
        scores = torch.matmul(query, self._key[rows, heads].float().transpose(-1, -2))
        if self._mask is None:
            return scores
        mask = self._mask.expand(self.batch, self.heads, *self._mask.shape[-2:])[rows, heads]
        return scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask

    def by_heads(self, rows: slice, tokens: int | None = None) -> Iterator[tuple[slice, torch.Tensor]]:
        """The probabilities in groups of heads small enough that no more than about 8 MB exist at once."""
        count = len(range(*rows.indices(self.batch)))
        keys = self.keys if self._log_sum is None else min(self.keys, tokens or self.keys)
        each = 4 * count * self.grid[0] * self.grid[1] * keys
        group = max(1, min(self.heads, CHUNK_BYTES // max(each, 1)))
        for start in range(0, self.heads, group):
            heads = slice(start, min(start + group, self.heads))
            yield heads, self.probabilities(rows, heads, tokens)


See = Callable[[Attention], None]


def tap_attention(denoiser: nn.Module, sites: Iterable[Site], see: See, hooks: Hooks) -> None:
    """Call ``see`` for every attention call at the given sites, for as long as the hooks live.

    Raises:
        CannotWatch: At once for a compiled denoiser; during the run when a site computed attention by a way that
            PyTorch's dispatcher does not show (the error names the backend).
    """
    refuse_compiled(denoiser)
    tap = _Tap(see)
    hooks.finally_(tap.close)
    frames: dict[str, nn.Module] = {}
    for site in sites:
        frames.setdefault(site.frame, denoiser.get_submodule(site.frame))
        tap.watch(site, denoiser.get_submodule(site.name), hooks)
    for name, frame in frames.items():
        hooks.before(frame, tap.framed(name))


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
        self._grids: dict[str, tuple[int, int]] = {}
        self._open: list[_Mode] = []
        self._seen = 0

    def framed(self, name: str) -> Callable[..., None]:
        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            features = args[0] if args else kwargs["hidden_states"]
            self._grids[name] = (int(features.shape[-2]), int(features.shape[-1]))

        return before

    def watch(self, site: Site, module: nn.Module, hooks: Hooks) -> None:
        def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            features = args[0] if args else kwargs["hidden_states"]
            mode = _Mode(site, self._grids[site.frame], int(features.shape[0]), int(module.heads), self._see)  # type: ignore[arg-type]
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
                    "scaled_dot_product_attention or softmax; switch to PyTorch's own attention, for example "
                    "pipeline.unet.set_attn_processor(AttnProcessor2_0())"
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
        query, key = given["query"], given["key"]
        scale = given.get("scale") or 1 / math.sqrt(query.shape[-1])
        if _takes_flash(given):
            output, log_sum = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
                query, key, given["value"], 0.0, False, scale=given.get("scale")
            )
        else:
            output, log_sum = F.scaled_dot_product_attention(*args, **kwargs), None
        mask = given.get("attn_mask")
        self._show(int(query.shape[1]), query=query, key=key, mask=mask, scale=scale, log_sum=log_sum)
        return output

    def _on_softmax(self, probabilities: torch.Tensor) -> None:
        """Explicit processors work on (row x head, query, key); sliced ones show a part of the rows at a time."""
        if probabilities.ndim != 3 or probabilities.shape[1] != self._grid[0] * self._grid[1]:
            return
        self._parts.append(probabilities)
        if sum(part.shape[0] for part in self._parts) == self._batch * self._heads:
            whole = torch.cat(self._parts).reshape(self._batch, self._heads, *probabilities.shape[1:])
            self._parts.clear()
            self._show(self._heads, ready=whole)

    def _show(
        self,
        heads: int,
        *,
        query: torch.Tensor | None = None,
        key: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
        scale: float = 1.0,
        log_sum: torch.Tensor | None = None,
        ready: torch.Tensor | None = None,
    ) -> None:
        order, self.seen = self.seen, self.seen + 1
        self._see(Attention(self.site, order, self._grid, heads, self._batch, query, key, mask, scale, log_sum, ready))


def _takes_flash(given: dict[str, Any]) -> bool:
    """Whether PyTorch would compute this call by its fused CPU kernel, without mask, dropout or causality.

    Not so where another function mode is active: it must see the call as it was made.
    """
    query = given["query"]
    if _get_current_function_mode_stack():
        return False
    if query.device.type != "cpu" or query.ndim != 4 or given.get("attn_mask") is not None:
        return False
    if given.get("dropout_p") or given.get("is_causal") or given.get("enable_gqa"):
        return False
    choice = torch._fused_sdp_choice(query, given["key"], given["value"], scale=given.get("scale"))
    return choice == SDPBackend.FLASH_ATTENTION.value


def _is_compiled(module: nn.Module) -> bool:
    return getattr(module, "_compiled_call_impl", None) is not None or type(module).__name__ == "OptimizedModule"
