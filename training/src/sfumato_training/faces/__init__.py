"""The training of studio/faces: data, an attribute reader, the denoiser."""
