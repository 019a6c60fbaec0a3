"""The training of the models that ship inside Sfumato, each from nothing and in stages."""
