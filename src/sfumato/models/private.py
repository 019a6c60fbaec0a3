"""What Sfumato needs of diffusers and PyTorch that they do not promise to keep, each with what for.

A test (`tests/models/test_private.py`) looks every name up, so a release that moved one says so before a user meets it.
"""

from __future__ import annotations

from dataclasses import dataclass

PIPELINE = "diffusers:DiffusionPipeline"
ATTENTION = "diffusers.models.attention_processor:Attention"
FLUX_ATTENTION = "diffusers.models.transformers.transformer_flux:FluxAttention"
FLUX_BLOCK = "diffusers.models.transformers.transformer_flux:FluxTransformerBlock"
SD3_BLOCK = "diffusers.models.attention:JointTransformerBlock"


@dataclass(frozen=True)
class Private:
    """One name.

    Attributes:
        of: Module, and class in it after a colon.
        name: The attribute.
        why: What Sfumato does with it, and where.
        instance: Whether only objects have it, not their class.
    """

    of: str
    name: str
    why: str
    instance: bool = False


RELIED_ON = (
    # pipelines
    Private(PIPELINE, "_execution_device", "where text is encoded (models/text.py)"),
    Private(
        PIPELINE,
        "_progress_bar_config",
        "switches the pipeline's own bar off for a run (generation/generate.py)",
        instance=True,
    ),
    Private("diffusers:StableDiffusionInstructPix2PixPipeline", "_encode_prompt", "its only reading (models/text.py)"),
    Private("diffusers:QwenImagePipeline", "prompt_template_encode", "places of words (models/text.py)", instance=True),
    Private(
        "diffusers:QwenImagePipeline",
        "prompt_template_encode_start_idx",
        "places of words (models/text.py)",
        instance=True,
    ),
    Private(
        "diffusers:KandinskyV22Pipeline", "movq_scale_factor", "size of a latent (models/kandinsky.py)", instance=True
    ),
    Private("diffusers:FluxPipeline", "default_sample_size", "size of an image (models/latent.py)", instance=True),
    # schedulers
    Private("diffusers:EulerDiscreteScheduler", "_step_index", "stands at one step (models/noise.py)", instance=True),
    Private(
        "diffusers:FlowMatchEulerDiscreteScheduler", "_step_index", "begins a listed schedule (models/listed.py)", True
    ),
    Private(
        "diffusers:FlowMatchEulerDiscreteScheduler", "_begin_index", "begins a listed schedule (models/listed.py)", True
    ),
    # attention modules
    *(
        Private(
            owner,
            name,
            "finds attention, makes keys of other words (models/sites.py, methods/ovam.py)",
            True,
        )
        for owner in (ATTENTION, FLUX_ATTENTION)
        for name in ("to_q", "to_k", "heads")
    ),
    *(
        Private(ATTENTION, name, "tells what a module reads (models/sites.py)", True)
        for name in ("added_kv_proj_dim", "only_cross_attention", "is_cross_attention")
    ),
    *(
        Private(FLUX_ATTENTION, name, "takes concepts through a block (generation/recorders/concepts.py)", True)
        for name in ("add_q_proj", "add_k_proj", "add_v_proj", "norm_added_q", "norm_added_k", "to_add_out")
    ),
    *(
        Private(owner, name, "takes concepts through a block (generation/recorders/concepts.py)", True)
        for owner in (FLUX_BLOCK, SD3_BLOCK)
        for name in ("attn", "norm1_context", "norm2_context", "ff_context")
    ),
    Private(
        SD3_BLOCK,
        "context_pre_only",
        "the last block has no text to go on with (generation/recorders/concepts.py)",
        True,
    ),
    # denoisers
    Private("diffusers:UNet2DConditionModel", "encoder_hid_proj", "image-prompt adapters (models/adapter.py)", True),
    Private("diffusers:AuraFlowTransformer2DModel", "register_tokens", "keys before the text (models/sites.py)", True),
    Private("diffusers:PixArtTransformer2DModel", "caption_projection", "keys of other words (methods/ovam.py)", True),
    Private(
        "diffusers:FluxTransformer2DModel", "context_embedder", "concepts (generation/recorders/concepts.py)", True
    ),
    Private("diffusers:SD3Transformer2DModel", "context_embedder", "concepts (generation/recorders/concepts.py)", True),
    *(
        Private("diffusers.models.embeddings:MultiIPAdapterImageProjection", name, "adapters (models/adapter.py)", True)
        for name in ("image_projection_layers",)
    ),
    Private(
        "diffusers.models.embeddings:ImageProjection", "num_image_text_embeds", "an adapter's tokens (models)", True
    ),
    Private(
        "diffusers.models.attention_processor:IPAdapterAttnProcessor2_0",
        "scale",
        "whether an adapter is called in a module (models/adapter.py)",
        True,
    ),
    *(
        Private(ATTENTION, name, "makes keys of other words (methods/ovam.py)", True)
        for name in ("norm_cross", "norm_k")
    ),
    Private("diffusers:StableDiffusionPipeline", "vae_scale_factor", "size of a latent (models/latent.py)", True),
    # PyTorch
    *(
        Private("torch.nn:Module", name, "hooks that change an image (models/settings.py)", True)
        for name in (
            "_forward_hooks",
            "_forward_pre_hooks",
            "_forward_hooks_with_kwargs",
            "_forward_pre_hooks_with_kwargs",
            "_backward_hooks",
            "_backward_pre_hooks",
        )
    ),
    *(
        Private("torch.nn.modules.module", name, "hooks of all modules (models/identity.py)")
        for name in ("_global_forward_hooks", "_global_forward_pre_hooks")
    ),
    *(
        Private("torch.nn:Module", name, "buffers that no file holds (models/fingerprint.py)", True)
        for name in ("_buffers", "_non_persistent_buffers_set")
    ),
    Private("torch", "_fused_sdp_choice", "whether the fused kernel would be chosen (generation/recorders/tapping.py)"),
    Private(
        "torch.ops.aten", "_scaled_dot_product_flash_attention_for_cpu", "its sum (generation/recorders/tapping.py)"
    ),
    Private(
        "torch.overrides", "_get_current_function_mode_stack", "leaves modes in order (generation/recorders/tapping.py)"
    ),
    Private("torch.overrides", "_pop_mode", "leaves modes in order (generation/recorders/tapping.py)"),
    Private("torch.overrides", "_push_mode", "leaves modes in order (generation/recorders/tapping.py)"),
    Private(
        "torch.nn:Module",
        "_compiled_call_impl",
        "a compiled part hides its attention (generation/recorders/tapping.py)",
    ),
    Private("accelerate.hooks:AlignDevicesHook", "weights_map", "weights kept elsewhere (models/fingerprint.py)", True),
    Private("torch:Tensor", "_version", "whether weights were written to (models/fingerprint.py)"),
)
"""Configurations' ``_name_or_path`` and ``_class_name`` are part of the files that diffusers writes, and not listed."""
