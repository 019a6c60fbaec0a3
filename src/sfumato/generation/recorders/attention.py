"""One attention call, as its ingredients: probabilities are computed only for what a watcher asks.

Cross-attention has the prompt's tokens for keys. Joint attention has one softmax over tokens and positions of the image
together; its maps are the rows of the image and the columns of the text. Where the kernel told the log of the sum that
its softmax divides by, those few columns are computed alone; else whole rows are, a block at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from sfumato.errors import CannotWatch
from sfumato.models.model import Site

CHUNK_BYTES = 8 * 2**20
BLOCK_BYTES = 2 * 2**20
"""Of rows of the whole softmax that exist at once, where the kernel does not tell its sum."""
HOW_TO_SWITCH = (
    "switch to PyTorch's own attention: pipeline.unet.set_attn_processor(AttnProcessor2_0()) for a U-Net, "
    "pipeline.transformer.set_attention_backend('native') for a transformer"
)


@dataclass
class Attention:
    """One attention call.

    Attributes:
        site: Where it happened.
        order: 0 for the site's first call in a forward; image-prompt adapters call again, after the text.
        grid: (height, width) of the image's positions.
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
    _mask: torch.Tensor | None = None  # what is added to scores, or which are kept: fits (row, head, query, key)
    _scale: float = 1.0
    _log_sum: torch.Tensor | None = None  # (row, head, query) log of the sum of exp(score) over the keys
    _ready: torch.Tensor | None = None  # (row, head, query, key), from an explicit processor
    _value: torch.Tensor | None = None  # (row, head, key, channel)
    _output: torch.Tensor | None = None  # (row, head, query, channel)

    @property
    def positions(self) -> int:
        """Number of positions of the image."""
        return self.grid[0] * self.grid[1]

    @property
    def places(self) -> slice:
        """Which queries are positions of the image: all, but for joint attention, where tokens ask too."""
        text = self._counts[0] - self.positions
        return slice(text, text + self.positions) if self.site.text_first else slice(self.positions)

    @property
    def text(self) -> slice:
        """Which keys are tokens: all, but for joint attention and added keys."""
        count = self._counts[1]
        if self.order or self.site.kind in ("self", "cross"):
            return slice(count)
        if self.site.text_first:
            return slice(self.site.registers, count - self.positions)
        return slice(self.positions, count)

    @property
    def keys(self) -> int:
        """Number of keys that are tokens."""
        return len(range(*self.text.indices(self._counts[1])))

    @property
    def device(self) -> torch.device:
        """Where it is computed."""
        known = self._ready if self._ready is not None else self._query
        assert known is not None
        return known.device

    def probabilities(
        self, rows: slice, heads: slice = slice(None), tokens: Sequence[int] | None = None
    ) -> torch.Tensor:
        """Softmax over all keys, of the positions of the image and of tokens: (row, head, place, token) in float32.

        Args:
            rows: Of the denoiser's batch.
            heads: Which heads.
            tokens: Which tokens, by their place in the context; all.
        """
        columns = self._columns(tokens)
        if self._ready is not None:
            return self._ready[rows, heads, self.places][..., columns].float()
        assert self._query is not None
        assert self._key is not None
        query, mask = self._query[rows, heads, self.places].float(), self._masking(rows, heads)
        if self._log_sum is not None:  # of the keys only those that are asked for; scores rounded as in the kernel
            few = self._key[rows, heads][:, :, columns].float()
            scores = _masked(torch.matmul(query, few.transpose(-1, -2)).mul_(self._scale), mask, columns)
            return scores.sub_(self._log_sum[rows, heads, self.places].unsqueeze(-1)).exp_()
        key = self._key[rows, heads].float() * self._scale
        size = max(1, BLOCK_BYTES // max(1, 4 * key.shape[:3].numel()))
        found, start = query.new_empty(*query.shape[:3], self.keys if tokens is None else len(tokens)), 0
        for part in query.split(size, 2):
            block = slice(start, start + part.shape[2])
            own = mask if mask is None or mask.shape[2] == 1 else mask[:, :, block]
            scores = _masked(torch.matmul(part, key.transpose(-1, -2)), own, slice(None))
            found[:, :, block] = scores.softmax(-1)[..., columns]
            start += part.shape[2]
        return found

    def both_ways(self, rows: slice, heads: slice = slice(None)) -> tuple[torch.Tensor, torch.Tensor]:
        """Softmax over the keys, and softmax over the queries: each (row, head, query, key) in float32.

        Raises:
            CannotWatch: Only probabilities are known, from an explicit processor: what each query's scores were divided
                by is gone, so queries cannot be compared.
        """
        scores = self._products(rows, heads, slice(None), slice(None))
        scores = _masked(scores, self._masking(rows, heads, slice(None)), slice(None))
        return scores.softmax(-1), scores.softmax(-2)

    def reading(self, key: torch.Tensor) -> Attention:
        """The same queries asking other keys (head, key, channel), which all rows share.

        Raises:
            CannotWatch: The queries are not known.
        """
        asking = self._known(self._query)[:, :, self.places]
        keys = key.to(asking).expand(self.batch, *key.shape)
        return Attention(self.site, 1, self.grid, self.heads, self.batch, asking, keys, None, self._scale)

    def scores(self, rows: slice, heads: slice = slice(None)) -> torch.Tensor:
        """Products of queries and keys, scaled, before any softmax: (row, head, place, token) in float32.

        Raises:
            CannotWatch: The queries are not known.
        """
        return self._products(rows, heads, self.places, self.text)

    def of_the_image(self, rows: slice) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Keys and values of the image's positions, and what attention gave them: each (row, head, place, channel).

        Raises:
            CannotWatch: They are not known.
        """
        key, value, output = (self._known(part) for part in (self._key, self._value, self._output))
        return key[rows, :, self.places], value[rows, :, self.places], output[rows, :, self.places]

    def by_heads(self, rows: slice, tokens: Sequence[int] | None = None) -> Iterator[tuple[slice, torch.Tensor]]:
        """The probabilities in groups of heads small enough that no more than about 8 MB exist at once."""
        count = len(range(*rows.indices(self.batch)))
        keys = self._counts[1] if tokens is None or self._log_sum is None else len(tokens)
        each = 4 * count * self.positions * keys
        group = max(1, min(self.heads, CHUNK_BYTES // max(each, 1)))
        for start in range(0, self.heads, group):
            heads = slice(start, min(start + group, self.heads))
            yield heads, self.probabilities(rows, heads, tokens)

    def _products(self, rows: slice, heads: slice, places: slice, columns: slice) -> torch.Tensor:
        """Of some queries and keys, scaled, before mask and softmax, in float32."""
        query, key = self._known(self._query), self._known(self._key)
        asking = query[rows, heads, places].float() * self._scale
        return torch.matmul(asking, key[rows, heads, columns].float().transpose(-1, -2))

    def _known(self, part: torch.Tensor | None) -> torch.Tensor:
        """An ingredient.

        Raises:
            CannotWatch: Only probabilities are known.
        """
        if part is None:
            raise CannotWatch(
                f"attention at {self.site.name} is computed by an explicit softmax, which does not show its scores; "
                f"{HOW_TO_SWITCH}"
            )
        return part

    @property
    def _counts(self) -> tuple[int, int]:
        """Numbers of queries and keys."""
        if self._ready is not None:
            return self._ready.shape[-2], self._ready.shape[-1]
        assert self._query is not None
        assert self._key is not None
        return self._query.shape[-2], self._key.shape[-2]

    def _columns(self, tokens: Sequence[int] | None) -> slice | torch.Tensor:
        """The keys that tokens are; neighbours as a slice, which copies nothing."""
        first = self.text.start or 0
        if tokens is None:
            return self.text
        if list(tokens) == list(range(tokens[0], tokens[0] + len(tokens))):
            return slice(first + tokens[0], first + tokens[0] + len(tokens))
        return torch.tensor([first + token for token in tokens], device=self.device)

    def _masking(self, rows: slice, heads: slice, places: slice | None = None) -> torch.Tensor | None:
        """What of the mask concerns some rows and heads: (row, head, place or 1, key)."""
        if self._mask is None:
            return None
        mask = self._mask.expand(self.batch, self.heads, *self._mask.shape[-2:])[rows, heads]
        return mask if mask.shape[2] == 1 else mask[:, :, self.places if places is None else places]


def _masked(scores: torch.Tensor, mask: torch.Tensor | None, columns: slice | torch.Tensor) -> torch.Tensor:
    if mask is None:
        return scores
    mask = mask[..., columns]
    return scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
