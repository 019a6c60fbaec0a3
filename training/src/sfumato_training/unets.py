"""What every U-Net in training needs: a start from zero, attention and compiling whose gradients are right on a CPU."""

from __future__ import annotations

from typing import Any

import torch


def start_as_identity(unet: Any) -> Any:
    """Let every residual branch of an untrained U-Net, and its output, start at zero.

    So each branch grows only as far as it helps. With the usual random start the coarse levels, whose gradients are
    small, can stay noise that the fine levels learn to ignore.
    """
    from diffusers.models.resnet import ResnetBlock2D
    from diffusers.models.transformers.transformer_2d import Transformer2DModel

    ends = [module.conv2 for module in unet.modules() if isinstance(module, ResnetBlock2D)]
    ends += [module.proj_out for module in unet.modules() if isinstance(module, Transformer2DModel)]
    for module in (*ends, unet.conv_out):
        torch.nn.init.zeros_(module.weight)
        torch.nn.init.zeros_(module.bias)
    return unet


def _upsampled(module: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
    """Double height and width by copying every pixel, before a convolution."""
    pixels = inputs[0]
    count, channels, height, width = pixels.shape
    copied = pixels[:, :, :, None, :, None].expand(count, channels, height, 2, width, 2)
    return (copied.reshape(count, channels, 2 * height, 2 * width),)


def compiled(unet: Any) -> Any:
    """Compile a U-Net for training.

    Compiled for a CPU in bf16, the gradient of nearest-neighbour interpolation is zero (torch 2.13), and so are all
    gradients before it. The same upsampling is therefore done by copying, whose compiled gradient is right.
    """
    from diffusers.models.upsampling import Upsample2D

    for module in unet.modules():
        if isinstance(module, Upsample2D):
            module.interpolate = False
            module.conv.register_forward_pre_hook(_upsampled)
    return torch.compile(unet, dynamic=False)


def explicit_attention(unet: Any) -> None:
    """Compute attention by products and softmax: the backward pass of the fused one takes 40% of a step on a CPU."""
    from diffusers.models.attention_processor import AttnProcessor

    unet.set_attn_processor(AttnProcessor())
