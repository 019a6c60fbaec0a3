"""The training of studio/insert: pairs, the autoencoder, the denoiser with its encoder of references."""
