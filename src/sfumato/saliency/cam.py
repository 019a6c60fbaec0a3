"""DF-CAM: the feature maps of a step, each weighed by the gradient of the denoiser's output through it.

Source: Park et al. 2024, "Explaining generative diffusion models via visual analysis", after Grad-CAM (Selvaraju et al.
2017): y = sum of the output, alpha_k = mean over places of dy/dA^k, H = ReLU(sum_k alpha_k A^k). One forward and one
backward pass give all layers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from sfumato.errors import NonFinite
from sfumato.generation.recorders.activations import Activations, FeatureMaps
from sfumato.saliency.recovering import Recovery

LAYERS = (
    "down_blocks.*.resnets.*",
    "down_blocks.*.attentions.*",
    "down_blocks.*.downsamplers.*",
    "mid_block.resnets.*",
    "up_blocks.*.resnets.*",
    "up_blocks.*.attentions.*",
    "up_blocks.*.upsamplers.*",
    "downs.*.*",
    "mid_block?",
    "ups.*.*",
)
"""The source's choice: residual blocks, attentions and samplers of both halves, and the residual blocks between."""


def cam(
    recovery: Recovery,
    layers: Sequence[str],
    weights: torch.Tensor | None = None,
    *,
    mix: float | None = None,
) -> dict[str, torch.Tensor]:
    """The maps of layers (y, x) on their own grids.

    Args:
        recovery: The step.
        layers: Paths of modules inside the denoiser whose outputs are feature maps.
        weights: What the output is multiplied by before it is summed, such as a mask (y, x); nothing by default.
        mix: A guidance scale, by which activations and gradients of both branches are mixed as the released code does;
            by default the conditional branch alone.

    Raises:
        NonFinite: A gradient is NaN or infinite.
    """
    features, gradients = _passes(recovery, layers, weights, "conditional")
    if mix is not None and "unconditional" in recovery.trace.branches.names:
        others, other_gradients = _passes(recovery, layers, weights, "unconditional")
        features = {name: others[name] + mix * (own - others[name]) for name, own in features.items()}
        gradients = {
            name: other_gradients[name] + mix * (own - other_gradients[name]) for name, own in gradients.items()
        }
    found = {}
    for name, maps in features.items():
        if not torch.isfinite(gradients[name]).all():
            raise NonFinite(f"the gradient at {name} is NaN or infinite at step {recovery.step}; try float32")
        alpha = gradients[name].mean((-2, -1), keepdim=True)
        found[name] = F.relu((alpha * maps).sum(1))[0]
    return found


def on_grid(layer: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """A layer's map (y, x), resampled to a grid and brought to 0 to 1; zero where it is the same everywhere."""
    large = F.interpolate(layer[None, None].float().cpu(), grid, mode="bilinear", align_corners=False)[0, 0]
    spread = large.max() - large.min()
    return (large - large.min()) / spread if spread > 0 else torch.zeros(grid)


def _passes(
    recovery: Recovery, layers: Sequence[str], weights: torch.Tensor | None, branch: str
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Feature maps and gradients of one branch, each (1, channel, y, x)."""
    raw: dict[str, torch.Tensor] = {}

    def take(name: str, step: int, output: torch.Tensor) -> None:
        raw[name] = output

    output = recovery.trace.replay(
        recovery.step,
        branch=branch,
        sample=recovery.sample.clone().requires_grad_(True),
        attachments=[Activations(layers, take, raw=True)],
        gradients=True,
    )
    recovery.calls += 1
    with torch.enable_grad():
        total = (output if weights is None else output * weights.to(output)).sum()
    reached = {name: maps for name, maps in raw.items() if maps.requires_grad}
    found = torch.autograd.grad(total, list(reached.values()), allow_unused=True)
    known = dict(zip(reached, found, strict=True))
    reader = FeatureMaps(recovery.trace.model, recovery.trace.requests[0])
    features: dict[str, torch.Tensor] = {}
    gradients: dict[str, torch.Tensor] = {}
    for name, maps in raw.items():
        gradient = torch.zeros_like(maps) if known.get(name) is None else known[name]
        for values, kept in ((maps, features), (gradient, gradients)):
            shaped = reader.of(name, values.detach())
            assert shaped is not None  # the watcher has refused others
            kept[name] = shaped.float()
    return features, gradients
