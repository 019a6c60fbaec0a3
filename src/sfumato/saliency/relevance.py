"""Concept relevance: how much of a step's output came to each place from each token, through all attention layers.

Source: Park et al. 2024, cross-attention mapping, after Chefer et al. 2021 (generic attention explainability). With
A_bar the mean over heads of the positive part of probability times gradient, in order of execution:
R_ii += A_bar R_ii and R_iq += A_bar R_iq at self-attention, R_iq += norm(R_ii)^T A_bar norm(R_qq) at cross-attention,
where R_qq comes from the text encoder's own self-attention by the first rule.

The layers of a U-Net have grids of several sizes, of which the rules do not speak. Between them, relevance of a place
is averaged where grids shrink and repeated where they grow, and relevance that came from places is summed or divided,
so that rows keep their sums; the identity in R_ii stays the identity of the grid, so no relevance is ever negative.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sfumato.errors import CannotWatch, NonFinite
from sfumato.generation.recorders.probabilities import ExplicitAttention
from sfumato.generation.recorders.tapping import refuse_compiled
from sfumato.generation.trace import Trace
from sfumato.models.model import Site

Grid = tuple[int, int]


def relevance(trace: Trace, step: int, *, budget: float = 1e9) -> torch.Tensor:
    """Relevance of every token for every place of the latent at one step: (token, y, x).

    y is the sum of the conditional branch's output; one forward and one backward pass.

    Args:
        trace: Of one image, with this step's call recorded.
        step: Which step.
        budget: Bytes that the attention probabilities may take.

    Raises:
        CannotWatch: The attention of the denoiser (once at every site) or of the text encoder is not computed by
            PyTorch's kernel.
        NonFinite: A gradient is NaN or infinite.
        BudgetExceeded: The probabilities would take more.
    """
    model, request = trace.model, trace.requests[0]
    refuse_compiled(model.denoiser)
    sites = model.sites()
    with torch.enable_grad():
        with ExplicitAttention(budget) as text:
            condition = model.encode([request.prompt], gradients=True)
        if not text.kept:
            raise CannotWatch(
                "the text encoder did not compute its attention by PyTorch's kernel, so what its tokens took from each "
                "other cannot be followed; switch it back: pipeline.text_encoder.set_attn_implementation('sdpa')"
            )
        with ExplicitAttention(budget) as seen:
            output = trace.replay(step, condition=condition, gradients=True)
        if len(seen.kept) != len(sites):
            raise CannotWatch(
                f"the denoiser computed attention {len(seen.kept)} times by PyTorch's kernel where {len(sites)} are "
                "known; switch to PyTorch's own attention: pipeline.unet.set_attn_processor(AttnProcessor2_0())"
            )
        gradients = torch.autograd.grad(output.sum(), [*text.kept, *seen.kept], allow_unused=True)
    weighed = [_weighed(*pair, step) for pair in zip([*text.kept, *seen.kept], gradients, strict=True)]
    among = of_tokens(weighed[: len(text.kept)], int(condition.shape[1]))
    return through(sites, weighed[len(text.kept) :], among, model.latent_grid(request))


def of_tokens(layers: Sequence[torch.Tensor], tokens: int) -> torch.Tensor:
    """R_qq (token, token) of a text encoder, from A_bar of its layers."""
    found = torch.eye(tokens)
    for layer in layers:
        found = found + layer @ found
    return found


def through(sites: Sequence[Site], layers: Sequence[torch.Tensor], among: torch.Tensor, latent: Grid) -> torch.Tensor:
    """Apply the rules to A_bar (query, key) of every site in order of execution.

    Args:
        sites: What kind each is.
        layers: A_bar of each.
        among: R_qq (token, token).
        latent: Height and width of the latent.

    Returns:
        R_iq on the grid of the latent: (token, y, x).
    """
    grid = latent
    own = torch.eye(grid[0] * grid[1])
    across = torch.zeros(grid[0] * grid[1], len(among))
    for site, layer in zip(sites, layers, strict=True):
        wanted = _grid(layer.shape[0], latent)
        own, across, grid = _moved(own, grid, wanted), _rows(across, grid, wanted), wanted
        if site.kind == "self":
            own, across = own + layer @ own, across + layer @ across
        else:
            across = across + normalised(own).T @ layer @ normalised(among)
    return _rows(across, grid, latent).T.reshape(-1, *latent)


def normalised(relevances: torch.Tensor) -> torch.Tensor:
    """A matrix R with what it gained over the identity divided by its rows' sums, the identity added again."""
    gained = relevances - torch.eye(len(relevances))
    sums = gained.sum(-1, keepdim=True)
    return torch.where(sums > 0, gained / sums.clamp(min=1e-30), gained) + torch.eye(len(relevances))


def _weighed(probabilities: torch.Tensor, gradient: torch.Tensor | None, step: int) -> torch.Tensor:
    """A_bar of one call: the mean over heads of the positive part of probability times gradient (query, key)."""
    if gradient is None:
        return torch.zeros(probabilities.shape[-2:])
    product = (probabilities.detach() * gradient).float()
    if not torch.isfinite(product).all():
        raise NonFinite(f"the gradient of the attention is NaN or infinite at step {step}; try float32, or other steps")
    return product.clamp(min=0).mean((0, 1)).cpu()


def _grid(places: int, latent: Grid) -> Grid:
    """The grid of so many places that has the shape of the latent, divided by one factor."""
    for factor in range(1, max(latent) + 1):
        found = -(-latent[0] // factor), -(-latent[1] // factor)
        if found[0] * found[1] == places:
            return found
    raise CannotWatch(
        f"an attention layer has {places} places, which is no grid of the latent {latent[0]} x {latent[1]}"
    )


def _rows(matrix: torch.Tensor, grid: Grid, wanted: Grid) -> torch.Tensor:
    """The rows of (place, ...) brought to another grid: each is the mean over what its cell covers."""
    if grid == wanted:
        return matrix
    down, across = (_shares(*sides) for sides in zip(grid, wanted, strict=True))
    maps = matrix.T.reshape(-1, *grid)
    return (down @ maps @ across.T).reshape(matrix.shape[1], -1).T


def _shares(cells: int, wanted: int) -> torch.Tensor:
    """How much of each of the wanted cells of a side lies in each of its cells: (wanted, cell), rows sum to 1."""
    ends, own_ends = torch.arange(wanted + 1)[:, None] * cells, torch.arange(cells + 1) * wanted
    overlap = torch.minimum(ends[1:], own_ends[1:]) - torch.maximum(ends[:-1], own_ends[:-1])
    return overlap.clamp(min=0) / cells


def _moved(own: torch.Tensor, grid: Grid, wanted: Grid) -> torch.Tensor:
    """R_ii on another grid: of what it gained over 1, rows as ``_rows`` does, columns so that rows keep their sums."""
    if grid == wanted:
        return own
    gained = own - torch.eye(len(own))
    columns = _rows(_rows(gained, grid, wanted).T, grid, wanted).T
    return columns * (grid[0] * grid[1] / (wanted[0] * wanted[1])) + torch.eye(len(columns))
