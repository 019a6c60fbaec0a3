"""The pipeline classes that Sfumato knows: which family each belongs to, what it is for, and how it reads its prompt.

A new pipeline is one line here where its parts are of known kinds (see CONTRIBUTING).
"""

from __future__ import annotations

from sfumato.models.family import Family
from sfumato.models.flux import FluxModel, QwenModel
from sfumato.models.kandinsky import KandinskyModel
from sfumato.models.pixel import LabelModel, PixelModel
from sfumato.models.reference import PaintByExampleModel, ReferenceModel
from sfumato.models.tasks import CONTROL, EDITING, IMAGE, INPAINTING, TEXT, PipelineTask
from sfumato.models.text import (
    AuraText,
    EditText,
    FluxText,
    HunyuanText,
    ImageEmbeddings,
    NoText,
    PixArtText,
    QwenText,
    SanaText,
    SigmaText,
    T5Text,
    Text,
    ThreeEncoders,
    TwoEncoders,
)

CROSS = frozenset({"token-maps", "cross-attention", "replay"})
STREAM = frozenset({"token-maps", "text-stream"})
MAPS = frozenset({"token-maps"})
ADDED = frozenset({"token-maps", "replay"})
THOUSAND = 1000.0


UNET = Family("unet", Text, CROSS | {"followed"})
CONSISTENCY = Family("unet", Text, CROSS | {"followed"}, guidance="distilled")
EDIT = Family("unet", EditText, CROSS | {"followed"})
UNET_XL = Family("unet-xl", TwoEncoders, CROSS)
SD3 = Family("sd3", ThreeEncoders, STREAM | {"replay"})
FLUX = Family("flux", FluxText, STREAM, FluxModel, "distilled", THOUSAND)
CHROMA = Family("chroma", T5Text, MAPS, FluxModel, "sequential", THOUSAND)
QWEN = Family("qwen", QwenText, MAPS, QwenModel, "sequential", THOUSAND)
AURA = Family("auraflow", AuraText, MAPS, time_scale=THOUSAND)
WRITTEN = {"clean_caption": False, "use_resolution_binning": False}
"""The prompt as it was written, the image of the size that was asked for: else words and places would not be known."""
PIXART = Family("pixart", PixArtText, CROSS, arguments=WRITTEN)
SANA = Family("sana", SanaText, MAPS, arguments={"use_resolution_binning": False})
HUNYUAN = Family("hunyuan", HunyuanText, MAPS, arguments={"use_resolution_binning": False})
SIGMA = Family("pixart", SigmaText, CROSS, arguments=WRITTEN)
KANDINSKY = Family("kandinsky", ImageEmbeddings, ADDED, KandinskyModel)
REFERENCE = Family("reference", NoText, frozenset({"reference", "cross-attention", "replay"}), ReferenceModel)
EXAMPLE = Family("reference", NoText, frozenset({"reference", "cross-attention"}), PaintByExampleModel)

LATENT: dict[str, tuple[Family, PipelineTask]] = {
    "StableDiffusionPipeline": (UNET, TEXT),
    "StableDiffusionImg2ImgPipeline": (UNET, IMAGE),
    "StableDiffusionInpaintPipeline": (UNET, INPAINTING),
    "StableDiffusionControlNetPipeline": (UNET, CONTROL),
    "StableDiffusionInstructPix2PixPipeline": (EDIT, EDITING),
    "LatentConsistencyModelPipeline": (CONSISTENCY, TEXT),
    "StableDiffusionXLPipeline": (UNET_XL, TEXT),
    "StableDiffusionXLImg2ImgPipeline": (UNET_XL, IMAGE),
    "StableDiffusionXLInpaintPipeline": (UNET_XL, INPAINTING),
    "StableDiffusionXLControlNetPipeline": (UNET_XL, CONTROL),
    "StableDiffusion3Pipeline": (SD3, TEXT),
    "StableDiffusion3Img2ImgPipeline": (SD3, IMAGE),
    "StableDiffusion3InpaintPipeline": (SD3, INPAINTING),
    "FluxPipeline": (FLUX, TEXT),
    "FluxImg2ImgPipeline": (FLUX, IMAGE),
    "FluxInpaintPipeline": (FLUX, INPAINTING),
    "ChromaPipeline": (CHROMA, TEXT),
    "QwenImagePipeline": (QWEN, TEXT),
    "AuraFlowPipeline": (AURA, TEXT),
    "SanaPipeline": (SANA, TEXT),
    "HunyuanDiTPipeline": (HUNYUAN, TEXT),
    "PixArtAlphaPipeline": (PIXART, TEXT),
    "PixArtSigmaPipeline": (SIGMA, TEXT),
    "KandinskyV22Pipeline": (KANDINSKY, TEXT),
    "KandinskyV22InpaintPipeline": (KANDINSKY, INPAINTING),
    "ReferenceInpaintPipeline": (REFERENCE, INPAINTING),
    "PaintByExamplePipeline": (EXAMPLE, INPAINTING),
}
PIXEL: dict[str, type[PixelModel]] = {
    "DDPMPipeline": PixelModel,
    "DDIMPipeline": PixelModel,
    "LabelPipeline": LabelModel,
}
OWN = ("LabelPipeline", "ReferenceInpaintPipeline")
"""Those of `sfumato.pipelines`, which diffusers does not know."""
SUPPORTED = (*LATENT, *PIXEL)
