"""How alike two generated images are: 1 for the same image, by each of several measures; and which CLIP judges."""

from sfumato.similarity.clip import Clip
from sfumato.similarity.judges import clip_for
from sfumato.similarity.measures import MEASURES, Similarity, similarity

__all__ = ["MEASURES", "Clip", "Similarity", "clip_for", "similarity"]
