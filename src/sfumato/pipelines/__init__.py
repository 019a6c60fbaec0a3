"""Pipelines of our own: label-conditional diffusion on pixels, which diffusers does not have."""
