"""The studio: procedural scenes with exact ground truth, a reader of images, and the models trained on them."""
