"""A U-Net of ConvNeXt blocks and linear attention that reads its label as a fourth input channel.

The denoiser of the source (thesis on the diffusion profile, section 3.3 and appendix B), with its layer names:
``downs.L.0`` and ``downs.L.1`` ConvNeXt blocks (``ds_conv``, ``net``, ``res_conv``), ``downs.L.2.fn`` attention,
``downs.L.3`` sampling convolution, ``mid_block1``, ``mid_attn.fn``, ``mid_block2``, ``ups.L.*`` alike, ``final_conv``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import BaseOutput
from torch import nn

ATTENTION_HEADS = 4
HEAD_WIDTH = 32


@dataclass
class LabelUNetOutput(BaseOutput):  # type: ignore[misc]
    """The predicted noise: ``sample`` (item, channel, y, x)."""

    sample: torch.Tensor


class LabelUNet(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Predicts the noise of an image, given its timestep and its label.

    Args:
        sample_size: Height and width of the images; a multiple of 2 for every level but the last.
        in_channels: Colour channels of the images; the label makes one more.
        dim: Channels of the first convolution.
        dim_mults: Channels of each level as a multiple of `dim`.
        labels: How many labels there are: numbers from 0; the number `labels` says "no label" (for guidance).
        mult: Channels inside a ConvNeXt block as a multiple of its output's.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        sample_size: int = 64,
        in_channels: int = 3,
        dim: int = 64,
        dim_mults: tuple[int, ...] = (1, 2, 4, 8),
        labels: int = 16,
        mult: int = 2,
    ) -> None:
        super().__init__()
        widths = [dim, *(dim * m for m in dim_mults)]
        levels = list(pairwise(widths))
        time = dim * 4
        self.init_conv = nn.Conv2d(in_channels + 1, dim, 7, padding=3)
        self.time_mlp = nn.Sequential(SinusoidalEmbedding(dim), nn.Linear(dim, time), nn.GELU(), nn.Linear(time, time))
        self.downs = nn.ModuleList(
            nn.ModuleList(
                (
                    ConvNextBlock(narrow, wide, time, mult),
                    ConvNextBlock(wide, wide, time, mult),
                    Residual(wide),
                    nn.Conv2d(wide, wide, 4, stride=2, padding=1) if number < len(levels) - 1 else nn.Identity(),
                )
            )
            for number, (narrow, wide) in enumerate(levels)
        )
        deepest = widths[-1]
        self.mid_block1 = ConvNextBlock(deepest, deepest, time, mult)
        self.mid_attn = Residual(deepest)
        self.mid_block2 = ConvNextBlock(deepest, deepest, time, mult)
        self.ups = nn.ModuleList(
            nn.ModuleList(
                (
                    ConvNextBlock(wide * 2, narrow, time, mult),
                    ConvNextBlock(narrow, narrow, time, mult),
                    Residual(narrow),
                    nn.ConvTranspose2d(narrow, narrow, 4, stride=2, padding=1),
                )
            )
            for narrow, wide in reversed(levels[1:])
        )
        self.final_conv = nn.Sequential(FinalBlock(dim, mult), nn.Conv2d(dim, in_channels, 1))

    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor | float,
        class_labels: torch.Tensor | None = None,
        return_dict: bool = True,
    ) -> LabelUNetOutput | tuple[torch.Tensor]:
        """Predict the noise.

        Args:
            sample: (item, channel, y, x).
            timestep: Of all items, or one for each.
            class_labels: (item,) whole numbers up to `labels`; without them, no item has a label.
            return_dict: False gives a tuple.
        """
        count, _, height, width = sample.shape
        times = torch.as_tensor(timestep, device=sample.device).expand(count)
        nothing = torch.tensor([int(self.config.labels)], device=sample.device)
        numbers = (nothing if class_labels is None else class_labels).expand(count)
        channel = self.spread(numbers, height, width).to(sample)
        time = self.time_mlp(times.to(sample.dtype))
        hidden = self.init_conv(torch.cat((sample, channel), dim=1))
        skips = []
        for level in self.downs:
            first, second, attention, down = level.children()
            hidden = attention(second(first(hidden, time), time))
            skips.append(hidden)
            hidden = down(hidden)
        hidden = self.mid_block2(self.mid_attn(self.mid_block1(hidden, time)), time)
        for level in self.ups:
            first, second, attention, up = level.children()
            hidden = torch.cat((hidden, skips.pop()), dim=1)
            hidden = up(attention(second(first(hidden, time), time)))
        noise = self.final_conv(hidden)
        return LabelUNetOutput(noise) if return_dict else (noise,)

    def spread(self, numbers: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """The label's channel, (item, 1, y, x): its bits, in reading order, in every tile of pixels; 0 for no label.

        A bit is -1 or 1. The source fills the channel with the label's number; as bits, each attribute is a linear
        function of the channel, which a small network learns in far fewer steps than the parity of a number.
        """
        bits = max(1, (int(self.config.labels) - 1).bit_length())
        side = math.isqrt(bits - 1) + 1  # of a tile
        places = torch.arange(bits - 1, -1, -1, device=numbers.device)
        values = ((numbers[:, None].long() >> places) & 1).float() * 2 - 1
        values = torch.where((numbers == self.config.labels)[:, None], torch.zeros_like(values), values)
        tile = torch.nn.functional.pad(values, (0, side * side - bits)).reshape(-1, 1, side, side)
        return tile.repeat(1, 1, -(-height // side), -(-width // side))[:, :, :height, :width]


class SinusoidalEmbedding(nn.Module):
    """Sines and cosines of a timestep, (item,) to (item, width) (equation 3.3.1)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, times: torch.Tensor) -> torch.Tensor:
        """Embed."""
        half = self.width // 2
        rates = torch.exp(torch.arange(half, device=times.device) * (-math.log(10_000) / (half - 1)))
        angles = times.float()[:, None] * rates
        return torch.cat((angles.sin(), angles.cos()), dim=1).to(times)


class ConvNextBlock(nn.Module):
    """A depthwise convolution, the time, and an inverted bottleneck, around which the input is added."""

    def __init__(self, channels: int, out: int, time: int, mult: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.GELU(), nn.Linear(time, channels))
        self.ds_conv = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.net = bottleneck(channels, out, mult)
        self.res_conv = nn.Conv2d(channels, out, 1) if channels != out else nn.Identity()

    def forward(self, hidden: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """Map (item, channel, y, x)."""
        inner: torch.Tensor = self.net(self.ds_conv(hidden) + self.mlp(time)[:, :, None, None])
        result: torch.Tensor = inner + self.res_conv(hidden)
        return result


class FinalBlock(nn.Module):
    """A ConvNeXt block that does not see the time."""

    def __init__(self, channels: int, mult: int) -> None:
        super().__init__()
        self.ds_conv = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.net = bottleneck(channels, channels, mult)
        self.res_conv = nn.Identity()

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Map (item, channel, y, x)."""
        inner: torch.Tensor = self.net(self.ds_conv(hidden))
        return inner + hidden


def bottleneck(channels: int, out: int, mult: int) -> nn.Sequential:
    """Normalise, widen, GELU, normalise, narrow."""
    return nn.Sequential(
        nn.GroupNorm(1, channels),
        nn.Conv2d(channels, out * mult, 3, padding=1),
        nn.GELU(),
        nn.GroupNorm(1, out * mult),
        nn.Conv2d(out * mult, out, 3, padding=1),
    )


class Residual(nn.Module):
    """Adds its input to the attention's output (``fn``)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fn = nn.Sequential(nn.GroupNorm(1, channels), LinearAttention(channels))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Map (item, channel, y, x)."""
        attended: torch.Tensor = self.fn(hidden)
        return attended + hidden


class LinearAttention(nn.Module):
    """Attention whose cost grows with the number of positions, not its square: keys and values are summed up first."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        width = ATTENTION_HEADS * HEAD_WIDTH
        self.heads = ATTENTION_HEADS
        self.to_qkv = nn.Conv2d(channels, width * 3, 1, bias=False)
        self.to_out = nn.Sequential(nn.Conv2d(width, channels, 1), nn.GroupNorm(1, channels))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Map (item, channel, y, x)."""
        count, _, height, width = hidden.shape
        qkv = self.to_qkv(hidden).reshape(count, 3, ATTENTION_HEADS, HEAD_WIDTH, height * width)
        query, key, value = qkv.unbind(1)
        query = query.softmax(dim=-2) * HEAD_WIDTH**-0.5
        summed = torch.einsum("bhdn,bhen->bhde", key.softmax(dim=-1), value)
        found = torch.einsum("bhde,bhdn->bhen", summed, query).reshape(count, -1, height, width)
        result: torch.Tensor = self.to_out(found)
        return result
