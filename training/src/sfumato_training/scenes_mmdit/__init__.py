"""The training of studio/scenes-mmdit: the data of the scenes, an autoencoder of factor 4, a transformer."""
