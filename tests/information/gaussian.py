"""A denoiser of Gaussian images, whose information is known: labels shift the mean of some places and no others."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from numpy.typing import NDArray
from PIL import Image
from scipy.integrate import quad
from torch import nn

import sfumato
from sfumato.generation.generate import generate
from sfumato.generation.trace import Call, Trace
from sfumato.information.estimating import Contexts
from sfumato.models.model import Model
from sfumato.pipelines.label_pipeline import LabelPipeline
from sfumato.request import Request

SIDE, CHANNELS, LABELS = 8, 2, 4
WITHIN, BETWEEN = 0.3, 0.5
"""Variance of an image around its label's mean, and of the means, at the places that a label has a say in."""
DEAF = np.s_[:, :, :2]
"""Rows that no label has a say in: (row, channel, y, x)."""
CONTEXTS = Contexts(("01", ""), ((1, 0),))
LABEL = 0b01
Floats = NDArray[np.float64]


class Gaussian(ModelMixin, ConfigMixin):
    """Predicts exactly: x ~ N(mean of the label, WITHIN), and without a label x ~ N(0, WITHIN + BETWEEN)."""

    @register_to_config
    def __init__(self, sample_size: int = SIDE, in_channels: int = CHANNELS, labels: int = LABELS) -> None:
        super().__init__()
        shape = (labels, in_channels, sample_size, sample_size)
        drawn = torch.randn(shape, generator=torch.Generator().manual_seed(5)) * BETWEEN**0.5
        drawn[DEAF] = 0
        self.means = nn.Parameter(drawn, requires_grad=False)
        self.scheduler: Any = None
        self.kind = "epsilon"

    def forward(
        self, sample: torch.Tensor, timestep: Any, class_labels: torch.Tensor | None = None, return_dict: bool = True
    ) -> tuple[torch.Tensor]:
        rows, count = sample.double(), len(sample)
        numbers = torch.full((count,), LABELS) if class_labels is None else class_labels.expand(count)
        told = (numbers < LABELS).view(-1, 1, 1, 1)
        mean = torch.where(told, self.means.double()[numbers.clamp(max=LABELS - 1)], 0.0)
        variance = torch.where(told, WITHIN, torch.from_numpy(spread()))
        signal, noise = self._levels(torch.as_tensor(timestep))
        total = signal**2 * variance + noise**2
        clean = mean + signal * variance / total * (rows - signal * mean)
        eps = (rows - signal * clean) / noise
        output = {"epsilon": eps, "v_prediction": signal * eps - noise * clean, "flow": eps - clean}[self.kind]
        return (output.to(sample),)

    def _levels(self, timestep: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self.kind == "flow":
            share = timestep.double().reshape(-1, 1, 1, 1) / 1000
            return 1 - share, share
        bar = self.scheduler.alphas_cumprod[timestep.long()].double().reshape(-1, 1, 1, 1)
        return bar.sqrt(), (1 - bar).sqrt()


def spread() -> Floats:
    """The variance of an image without a label (1, channel, y, x)."""
    found = np.full((1, CHANNELS, SIDE, SIDE), WITHIN + BETWEEN)
    found[DEAF] = WITHIN
    return found


def gaussian(kind: str = "epsilon") -> Model:
    """The model, predicting noise ("epsilon"), velocity ("v_prediction") or the way from image to noise ("flow")."""
    unet = Gaussian().eval()
    scheduler: Any = FlowMatchEulerDiscreteScheduler()
    if kind != "flow":
        scheduler = DDIMScheduler(
            beta_start=1e-4, beta_end=0.02, beta_schedule="linear", clip_sample=False, prediction_type=kind
        )
    unet.scheduler, unet.kind = scheduler, kind
    pipeline = LabelPipeline(unet, scheduler)
    pipeline.set_progress_bar_config(disable=True)
    return sfumato.wrap(pipeline)


def traced(model: Model, **more: Any) -> Trace:
    """A short run of label 01; of a flow, whose scheduler the pipeline of labels cannot run, one call by hand."""
    request = Request(**{"label": "01", "steps": 2, "guidance": 1.0, **more})
    if model.denoiser.kind != "flow":
        return generate(model, request, record=True)
    nothing, label = torch.zeros(1, CHANNELS, SIDE, SIDE), torch.tensor([LABEL])
    call = Call(0, 500.0, nothing, label, {"timestep": torch.tensor(500.0)}, nothing)
    return Trace(model, (request,), [Image.new("RGB", (SIDE, SIDE))], nothing, 0.0, [call])


def drawn(model: Model, seed: int = 0) -> torch.Tensor:
    """An image of label 01 (1, channel, y, x)."""
    noise = torch.randn(1, CHANNELS, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    found: torch.Tensor = model.denoiser.means[LABEL] + WITHIN**0.5 * noise
    return found


def density(model: Model, latent: torch.Tensor, log_snr: float) -> Floats:
    """1/2 E |e(x_a) - e(x_a | y)|^2 at each place (channel, y, x); the expectation over noise by hand."""
    signal, noise = (1 / (1 + np.exp(-log_snr))) ** 0.5, (1 / (1 + np.exp(log_snr))) ** 0.5
    mean, x = (np.asarray(one, np.float64) for one in (model.denoiser.means[LABEL], latent[0]))
    without, given = (signal**2 * variance + noise**2 for variance in (spread()[0], WITHIN))
    slope = noise * (1 / without - 1 / given)
    middle = slope * signal * x + noise * signal * mean / given
    return np.asarray((middle**2 + slope**2 * noise**2) / 2)


def information(model: Model, latent: torch.Tensor, low: float, high: float) -> float:
    """The integral of the density over log-SNR, in nats."""
    return float(quad(lambda at: density(model, latent, at).sum(), low, high, epsabs=1e-9, limit=200)[0])


def ratio(model: Model, latent: torch.Tensor) -> float:
    """log p(x | y) - log p(x)."""
    mean, x = (np.asarray(one, np.float64) for one in (model.denoiser.means[LABEL], latent[0]))
    told = -((x - mean) ** 2) / WITHIN - np.log(WITHIN)
    return float((told + x**2 / spread()[0] + np.log(spread()[0])).sum() / 2)


def divergence(model: Model) -> float:
    """KL(p(x | y) || p(x)), which is the mean of that ratio over x of the label."""
    mean, wide = np.asarray(model.denoiser.means[LABEL], np.float64), spread()[0]
    return float(((WITHIN + mean**2) / wide - 1 + np.log(wide / WITHIN)).sum() / 2)
