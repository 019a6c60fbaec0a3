"""Concepts beside the text stream of a joint-attention transformer: they read, and nobody reads them.

Source: ConceptAttention (Helbling et al. 2025, arXiv 2502.04320). Each concept is a token that goes through every
double block as a text token does, with the text's own weights, but its queries ask the keys of [concepts; image] and no
query of the image or the text asks its keys. So the image stays as it is, and what attention gives a concept can be
compared with what it gives each position of the image.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from sfumato.errors import CannotWatch, ModelError
from sfumato.generation.context import GenerationContext
from sfumato.generation.recorders.attention import Attention
from sfumato.generation.recorders.tapping import tap_attention
from sfumato.models.model import Site


class ConceptStream:
    """Runs concepts beside the text of one guidance branch and sums how well image positions match them.

    Args:
        embeddings: What the text encoders make of each concept: (1, concept, channel).
        branch: Which guidance branch's image they read.
        layers: Sites whose outputs are compared; the concepts go through all of them.
        steps: At which steps they are compared, or None for all.
        softmax: Share 1 among the concepts at every position, in every layer; else the bare products.

    Raises:
        CannotWatch: During the run, where a block is not built as those of Flux and Stable Diffusion 3.
    """

    def __init__(
        self,
        embeddings: torch.Tensor,
        branch: str,
        layers: Collection[str],
        steps: Collection[int] | None = None,
        *,
        softmax: bool = True,
    ) -> None:
        self._embeddings, self._branch, self._softmax = embeddings, branch, softmax
        self._layers, self._steps = frozenset(layers), None if steps is None else frozenset(steps)
        self._concepts = embeddings
        self._blocks: dict[str, nn.Module] = {}
        self._modulations: dict[str, torch.Tensor] = {}
        self._sum: torch.Tensor | None = None
        self._count = 0
        self._grid = (0, 0)

    def install(self, run: GenerationContext) -> None:
        """Begin with the first double block of every call."""
        sites = [site for site in run.model.sites() if site.kind == "joint" and site.place == "block"]
        denoiser: Any = run.model.denoiser
        first = denoiser.get_submodule(sites[0].name.rpartition(".")[0])
        run.hooks.before(first, lambda module, args, kwargs: self._start(denoiser))
        for site in sites:
            name = site.name.rpartition(".")[0]
            self._blocks[site.name] = denoiser.get_submodule(name)
            run.hooks.before(self._blocks[site.name], self._modulated(site))
        tap_attention(run, sites, lambda attention: self._see(attention, run))

    def maps(self) -> NDArray[np.float32]:
        """The mean over steps and layers: (item, concept, y, x).

        Raises:
            CannotWatch: Nothing was seen.
        """
        if self._sum is None:
            raise CannotWatch("no double block was seen at the chosen layers and steps; choose others")
        mean = (self._sum / self._count).transpose(1, 2)
        found: NDArray[np.float32] = mean.reshape(*mean.shape[:2], *self._grid).float().cpu().numpy()
        return found

    def _start(self, denoiser: Any) -> None:
        with torch.no_grad():
            self._concepts = denoiser.context_embedder(self._embeddings)

    def _modulated(self, site: Site) -> Any:
        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._modulations[site.name] = kwargs["temb"] if "temb" in kwargs else args[2]

        return before

    def _see(self, attention: Attention, run: GenerationContext) -> None:
        rows = run.rows(self._branch)
        if rows is None or attention.order:
            return
        block, name = self._blocks[attention.site.name], attention.site.name
        with torch.no_grad():
            given = self.step(block, attention, rows, self._modulations[name][rows])
            if name in self._layers and (self._steps is None or run.clock.step in self._steps):
                self._compare(attention, rows, given)

    def step(self, block: Any, attention: Attention, rows: slice, modulation: torch.Tensor) -> torch.Tensor:
        """Take the concepts through one block, as it takes its text.

        Args:
            block: The block.
            attention: Its joint attention, under way.
            rows: Of the branch.
            modulation: What the block is told of the timestep: (row, channel).

        Returns:
            What attention gives them: (row, head, concept, channel).
        """
        state = self._concepts.expand(modulation.shape[0], *self._concepts.shape[-2:])
        last = bool(getattr(block, "context_pre_only", False))
        try:
            if last:  # whose text nobody reads any more
                normed, gates = block.norm1_context(state, modulation), []
            else:
                normed, *gates = block.norm1_context(state, emb=modulation)
            attn = block.attn
            query, key, value = (
                part(normed).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
                for part in (attn.add_q_proj, attn.add_k_proj, attn.add_v_proj)
            )
            query = query if attn.norm_added_q is None else attn.norm_added_q(query)
            key = key if attn.norm_added_k is None else attn.norm_added_k(key)
            image_key, image_value, _ = attention.of_the_image(rows)
            given = F.scaled_dot_product_attention(
                query, torch.cat([key, image_key.to(key)], 2), torch.cat([value, image_value.to(value)], 2)
            )
            if gates:
                gate, shift, scale, gate_later = gates
                state = state + gate.unsqueeze(1) * attn.to_add_out(given.transpose(1, 2).flatten(2))
                normed = block.norm2_context(state) * (1 + scale[:, None]) + shift[:, None]
                self._concepts = state + gate_later.unsqueeze(1) * block.ff_context(normed)
        except (AttributeError, ValueError, TypeError) as error:
            raise ModelError(
                f"{type(block).__name__} has no text stream that concepts could be run beside ({error}); this works "
                "for the blocks of Flux and Stable Diffusion 3"
            ) from error
        return given

    def _compare(self, attention: Attention, rows: slice, given: torch.Tensor) -> None:
        _, _, image = attention.of_the_image(rows)
        scores = torch.einsum("rhpc,rhkc->rpk", image.float(), given.float())
        found = scores.softmax(-1) if self._softmax else scores
        self._sum = found if self._sum is None else self._sum + found
        self._count += 1
        self._grid = attention.grid
