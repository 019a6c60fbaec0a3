"""Inpainting by example: what is painted into the mask is read from a reference picture, patch by patch."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKL, DiffusionPipeline, ImagePipelineOutput, UNet2DConditionModel
from diffusers.image_processor import VaeImageProcessor
from diffusers.utils.torch_utils import randn_tensor
from torch.nn import functional

from sfumato.pipelines.denoising import OnStep, denoised

NOISE, PAINTED = 4, 9
"""Channels of a latent, and of the U-Net's input: the latent, the mask, and the latent of what the mask leaves."""


class ReferenceInpaintPipeline(DiffusionPipeline):  # type: ignore[misc]
    """Paints what a reference shows into the masked part of an image.

    The U-Net cross-attends to all patch tokens of an image encoder; without a reference (the unconditional half of
    guidance) they are zero.

    Args:
        vae: Turns images into latents of 4 channels.
        unet: With 9 input channels: latent, mask, latent of the masked image.
        image_encoder: Its `last_hidden_state` is a token for the whole reference, then one for each patch, row by row.
        scheduler: Such as DDIM.
    """

    model_cpu_offload_seq = "image_encoder->unet->vae"
    _callback_tensor_inputs = ("latents",)

    def __init__(self, vae: AutoencoderKL, unet: UNet2DConditionModel, image_encoder: Any, scheduler: Any) -> None:
        super().__init__()
        self.register_modules(vae=vae, unet=unet, image_encoder=image_encoder, scheduler=scheduler)
        self.vae_scale_factor = 2 ** (len(vae.config.block_out_channels) - 1)
        self.image_processor = VaeImageProcessor(vae_scale_factor=self.vae_scale_factor)
        self.mask_processor = VaeImageProcessor(
            vae_scale_factor=self.vae_scale_factor, do_normalize=False, do_binarize=True, do_convert_grayscale=True
        )

    def encode_reference(self, reference: Any) -> torch.Tensor:
        """Patch tokens (item, patch, channel) of PIL images, or of a batch (item, 3, y, x) from -1 to 1."""
        side = self.image_encoder.config.image_size
        pixels = self.image_processor.preprocess(reference, side, side)
        hidden: torch.Tensor = self.image_encoder(
            pixels.to(self._execution_device, self.image_encoder.dtype)
        ).last_hidden_state
        return hidden[:, 1:]

    def encode_masked(self, image: Any, mask_image: Any) -> torch.Tensor:
        """What the U-Net is told of the image: (item, 5, y, x), the mask, then the latent of what it leaves."""
        pixels = self.image_processor.preprocess(image).to(self._execution_device, self.vae.dtype)
        mask = self.mask_processor.preprocess(mask_image).to(pixels)
        latent = self.vae.encode(pixels * (mask < 0.5)).latent_dist.mode() * self.vae.config.scaling_factor
        return torch.cat((shrunk(mask, self.vae_scale_factor), latent), dim=1)

    @torch.no_grad()
    def __call__(
        self,
        reference: Any,
        image: Any,
        mask_image: Any,
        *,
        num_inference_steps: int = 50,
        guidance_scale: float = 2.0,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: OnStep | None = None,
    ) -> ImagePipelineOutput | tuple[Any]:
        """Paint one image for every reference.

        Args:
            reference: PIL images of what to paint, one for each image.
            image: PIL images to paint in, all of one size.
            mask_image: PIL images, white where to paint.
            num_inference_steps: Denoising steps.
            guidance_scale: 1 or below switches guidance off.
            generator: Of the noise, one or one for each image.
            latents: The noise to start from, (item, channel, y, x).
            output_type: "pil", "np" (item, y, x, channel, from 0 to 1) or "latent".
            return_dict: False gives a tuple.
            callback_on_step_end: Called with the pipeline, the step's number, its timestep and {"latents": ...}; what
                it returns replaces them.
        """
        device = self._execution_device
        tokens, known = self.encode_reference(reference), self.encode_masked(image, mask_image)
        guided = guidance_scale > 1
        if guided:
            tokens, known = torch.cat((torch.zeros_like(tokens), tokens)), torch.cat((known, known))
        count = len(known) // (1 + guided)
        shape = (count, NOISE, *known.shape[-2:])
        sample = (
            randn_tensor(shape, generator=generator, device=device, dtype=known.dtype) if latents is None else latents
        )

        def predict(rows: torch.Tensor, timestep: Any) -> torch.Tensor:
            noise: torch.Tensor = self.unet(
                torch.cat((rows, known), dim=1), timestep, encoder_hidden_states=tokens, return_dict=False
            )[0]
            return noise

        sample = denoised(
            self,
            sample,
            predict,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            generator=generator,
            callback_on_step_end=callback_on_step_end,
        )
        images: Any = sample
        if output_type != "latent":
            images = self.vae.decode(sample / self.vae.config.scaling_factor, return_dict=False)[0]
            images = self.image_processor.postprocess(images, output_type=output_type)
        self.maybe_free_model_hooks()
        return ImagePipelineOutput(images=images) if return_dict else (images,)


def shrunk(mask: torch.Tensor, factor: int) -> torch.Tensor:
    """A mask (item, 1, y, x) on the grid of the latent: the share of each cell that it covers."""
    return functional.avg_pool2d(mask, factor)
