"""Stable Diffusion with a further network: ControlNet, which sees a picture, and IP-Adapter, which reads one."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from diffusers import (
    ControlNetModel,
    DiffusionPipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLControlNetPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)

from tests.families.family import Family, random_weights
from tests.families.parts import IMAGE_WIDTH, PROMPT, SIZE, amplified, clip_images, clip_vision, mask, picture
from tests.families.unets import stable_diffusion_parts, stable_diffusion_xl_parts

IMAGE_TOKENS = 4
SCALE = 0.6


def control_net(unet: UNet2DConditionModel) -> ControlNetModel:
    """A copy of the encoder of a U-Net; the convolutions that start at zero are drawn, so that it has an effect."""
    control = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 16, 32))
    for parameter in control.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3)
    amplified(control.controlnet_cond_embedding)
    return control


def adapter_weights(unet: UNet2DConditionModel) -> dict[str, dict[str, torch.Tensor]]:
    """An IP-Adapter that reads a picture as four tokens, in the layout of its published files."""
    context = unet.config.cross_attention_dim
    layers = [name.removesuffix(".processor") for name in unet.attn_processors if name.endswith("attn2.processor")]
    attention = {}
    for number, layer in enumerate(layers):
        width = unet.get_submodule(layer).to_k.out_features
        for part in ("k", "v"):
            # cross-attention layers have the odd numbers
            attention[f"{2 * number + 1}.to_{part}_ip.weight"] = 0.2 * torch.randn(width, context)
    projection = {
        "proj.weight": 0.2 * torch.randn(IMAGE_TOKENS * context, IMAGE_WIDTH),
        "proj.bias": torch.zeros(IMAGE_TOKENS * context),
        "norm.weight": torch.ones(context),
        "norm.bias": torch.zeros(context),
    }
    return {"image_proj": projection, "ip_adapter": attention}


def with_adapter(pipeline: Any) -> DiffusionPipeline:
    """The pipeline after an IP-Adapter was loaded into it."""
    pipeline.load_ip_adapter(adapter_weights(pipeline.unet), subfolder="", weight_name="")
    pipeline.set_ip_adapter_scale(SCALE)
    return pipeline


@random_weights
def controlled() -> DiffusionPipeline:
    """Text and a picture that guides the layout."""
    parts = stable_diffusion_parts()
    return StableDiffusionControlNetPipeline(**parts, controlnet=control_net(parts["unet"]))


@random_weights
def controlled_xl() -> DiffusionPipeline:
    """Text and a picture that guides the layout, on Stable Diffusion XL."""
    parts = stable_diffusion_xl_parts()
    return StableDiffusionXLControlNetPipeline(**parts, controlnet=control_net(parts["unet"]))


@random_weights
def adapted(kind: type[DiffusionPipeline] = StableDiffusionPipeline) -> DiffusionPipeline:
    """Text and a picture that is read as well."""
    parts = stable_diffusion_parts() | {"image_encoder": clip_vision(), "feature_extractor": clip_images()}
    return with_adapter(kind(**parts))


@random_weights
def adapted_xl(kind: type[DiffusionPipeline] = StableDiffusionXLPipeline) -> DiffusionPipeline:
    """Text and a picture that is read as well, on Stable Diffusion XL."""
    parts = stable_diffusion_xl_parts() | {"image_encoder": clip_vision(), "feature_extractor": clip_images()}
    return with_adapter(kind(**parts))


CONTROLLED = {"prompt": PROMPT, "image": picture(), **SIZE, "guidance_scale": 5.0}
ADAPTED = {"prompt": PROMPT, "ip_adapter_image": picture(seed=1), **SIZE, "guidance_scale": 5.0}

STARTED = ADAPTED | {"image": picture(seed=2), "strength": 0.8}

ADAPTERS = (
    Family("Stable Diffusion, ControlNet", "StableDiffusionControlNetPipeline", controlled, CONTROLLED),
    Family("Stable Diffusion, IP-Adapter", "StableDiffusionPipeline", adapted, ADAPTED),
    Family("Stable Diffusion XL, ControlNet", "StableDiffusionXLControlNetPipeline", controlled_xl, CONTROLLED),
    Family("Stable Diffusion XL, IP-Adapter", "StableDiffusionXLPipeline", adapted_xl, ADAPTED),
    Family(
        "Stable Diffusion, IP-Adapter, image to image",
        "StableDiffusionImg2ImgPipeline",
        partial(adapted, StableDiffusionImg2ImgPipeline),
        {name: value for name, value in STARTED.items() if name not in SIZE},
    ),
    Family(
        "Stable Diffusion XL, IP-Adapter, inpainting",
        "StableDiffusionXLInpaintPipeline",
        partial(adapted_xl, StableDiffusionXLInpaintPipeline),
        STARTED | {"mask_image": mask()},
    ),
)
