"""Saliency of a step: which places of its noisy latent matter for what the step recovers. A module for each way."""
