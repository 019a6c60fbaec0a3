"""Other answers to the same question, to judge a saliency by: gradients, and superpixels by LIME.

Each is a function of a step that gives a map (y, x), larger where a place matters more.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from sfumato.errors import NonFinite
from sfumato.games.coalitions import Coalitions
from sfumato.games.estimators.surrogate import lime
from sfumato.saliency.recovering import Recovery
from sfumato.saliency.similarities import local_similarity

SEGMENTS = 32
"""Superpixels of LIME. Quickshift with the settings of Park et al. 2024 gives 2 to 4 of a small picture."""
COMPACTNESS = 0.1
"""Of SLIC: how much nearness counts against colour (CIELAB)."""
WIDTH = 0.25
"""Of LIME's kernel, as in the source."""
INTEGRATED = 16
"""Points on the path of integrated gradients."""

Map = NDArray[np.float32]


def gradient(recovery: Recovery) -> Map:
    """The length over channels of the gradient of the sum of the denoiser's output."""
    return _map(_gradients(recovery, recovery.sample).norm(dim=1)[0])


def integrated_gradients(recovery: Recovery) -> Map:
    """Integrated gradients (Sundararajan et al. 2017) of the same sum, from a latent of zeros, summed over channels."""
    shares = (torch.arange(INTEGRATED) + 0.5) / INTEGRATED
    path = [_gradients(recovery, recovery.sample * float(share)) for share in shares]
    return _map((torch.stack(path).mean(0) * recovery.sample).sum(1).abs()[0])


def lime_map(recovery: Recovery, samples: int, seed: int, segments: int = SEGMENTS) -> Map:
    """LIME over superpixels of the recovered picture, zeros where one is missing: each place has its part's weight.

    The value is the mean structural similarity of the clean estimates.

    Args:
        recovery: The step.
        samples: Most coalitions.
        seed: Of the coalitions.
        segments: About how many superpixels; at most half of the coalitions.
    """
    labels = _superpixels(recovery, min(segments, samples // 2))
    count = int(labels.max()) + 1
    if count == 1:
        return np.zeros(recovery.grid, np.float32)
    plan = lime(count, samples, np.random.default_rng(seed), width=WIDTH, ridge=1e-3)
    fitted = plan.fit(_kept(recovery, labels, plan.coalitions))
    return np.asarray(fitted.phi[labels], np.float32)


def _superpixels(recovery: Recovery, most: int) -> NDArray[np.int_]:
    """At most so many parts of the recovered picture, cut at the size of the latent: (y, x) numbers without gaps."""
    from PIL import Image
    from skimage.segmentation import slic

    height, width = recovery.grid
    small = Image.fromarray(recovery.picture).resize((width, height), Image.Resampling.BOX)
    colours = np.asarray(small, np.float64) / 255
    cut_of = partial(slic, colours, compactness=COMPACTNESS, start_label=0, channel_axis=-1)
    for wanted in range(most, 0, -1):  # SLIC gives about as many as are wanted, sometimes some more
        cut = cut_of(n_segments=wanted)
        if not cut.any():  # in a noisy picture no part is large enough to be kept as one piece, and all are merged
            cut = cut_of(n_segments=wanted, enforce_connectivity=False)
        found, labels = np.unique(cut, return_inverse=True)
        if len(found) <= most:
            break
    return np.asarray(labels.reshape(recovery.grid))


def _kept(recovery: Recovery, labels: NDArray[np.int_], coalitions: Coalitions) -> NDArray[np.float64]:
    """The value of every coalition of superpixels."""
    values = []
    for start in range(0, len(coalitions), recovery.rows):
        masks = torch.from_numpy(coalitions[start : start + recovery.rows][:, labels].astype(np.float32))
        others = recovery.recovered(recovery.masked(masks))
        values.append(local_similarity("structure", recovery.clean, others).mean((-2, -1)))
    return torch.cat(values).double().cpu().numpy()


def _gradients(recovery: Recovery, sample: torch.Tensor) -> torch.Tensor:
    """The gradient of the summed output of the conditional branch by its latent (1, channel, y, x)."""
    inputs = sample.detach().clone().requires_grad_(True)
    output = recovery.trace.replay(recovery.step, sample=inputs, gradients=True)
    recovery.calls += 1
    (found,) = torch.autograd.grad(output.sum(), inputs)
    if not torch.isfinite(found).all():
        raise NonFinite(f"the gradient is NaN or infinite at step {recovery.step}; try float32")
    return found


def _map(values: torch.Tensor) -> Map:
    return np.asarray(values.detach().float().cpu().numpy(), np.float32)
