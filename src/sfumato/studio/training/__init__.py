"""The training of the embedded models, in four stages: data, vae, clip, unet."""
