"""Label-conditional diffusion on pixels, with classifier-free guidance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput
from diffusers.utils.torch_utils import randn_tensor

from sfumato.pipelines.denoising import OnStep, denoised
from sfumato.pipelines.label_unet import LabelUNet


class LabelPipeline(DiffusionPipeline):  # type: ignore[misc]
    """Draws images of given labels.

    With guidance w + 1 the noise is (1 + w) eps(x, t, y) - w eps(x, t), as in equation 3.4.3 of the source.

    Args:
        unet: The denoiser.
        scheduler: Such as DDPM or DDIM.
    """

    model_cpu_offload_seq = "unet"

    def __init__(self, unet: LabelUNet, scheduler: Any) -> None:
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)

    @torch.no_grad()
    def __call__(
        self,
        class_labels: Sequence[int | None],
        *,
        num_inference_steps: int = 1000,
        guidance_scale: float = 1.0,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: OnStep | None = None,
    ) -> ImagePipelineOutput | tuple[Any]:
        """Draw one image for every label.

        Args:
            class_labels: The number of each image's label; None for no label.
            num_inference_steps: Denoising steps.
            guidance_scale: 1 or below switches guidance off.
            generator: Of the noise, one or one for each image.
            latents: The noise to start from, (item, channel, y, x).
            output_type: "pil", "np" (item, y, x, channel, from 0 to 1) or "latent" (as the scheduler leaves it).
            return_dict: False gives a tuple.
            callback_on_step_end: Called with the pipeline, the step's number, its timestep and {"latents": ...}; what
                it returns replaces them.
        """
        unet, device = self.unet, self._execution_device
        count, none = len(class_labels), int(unet.config.labels)
        numbers = torch.tensor([none if label is None else label for label in class_labels], device=device)
        if guidance_scale > 1:
            numbers = torch.cat((torch.full_like(numbers, none), numbers))
        shape = (count, unet.config.in_channels, unet.config.sample_size, unet.config.sample_size)
        sample = (
            randn_tensor(shape, generator=generator, device=device, dtype=unet.dtype) if latents is None else latents
        )
        sample = denoised(
            self,
            sample,
            lambda rows, timestep: unet(rows, timestep, class_labels=numbers, return_dict=False)[0],
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            generator=generator,
            callback_on_step_end=callback_on_step_end,
        )
        images: Any = sample
        if output_type != "latent":
            pixels = (sample.float() / 2 + 0.5).clamp(0, 1).cpu().permute(0, 2, 3, 1).numpy()
            images = self.numpy_to_pil(pixels) if output_type == "pil" else pixels
        self.maybe_free_model_hooks()
        return ImagePipelineOutput(images=images) if return_dict else (images,)
