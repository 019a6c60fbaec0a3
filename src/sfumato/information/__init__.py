"""How many nats parts of a condition tell the denoiser about each place of an image."""
