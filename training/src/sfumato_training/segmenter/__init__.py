"""The training of studio/segmenter: scenes with the class of every pixel, and a small U-Net that predicts it."""
