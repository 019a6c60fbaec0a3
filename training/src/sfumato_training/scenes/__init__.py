"""The training of studio/scenes: data, autoencoder, contrastive pair, denoiser."""
