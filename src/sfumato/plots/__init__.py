"""Pictures from explanations; matplotlib is loaded when the first one is drawn."""

from sfumato.plots.importance import importance_sheet
from sfumato.plots.overlays import overlay
from sfumato.plots.words import word_overlay, word_sheet

__all__ = ["importance_sheet", "overlay", "word_overlay", "word_sheet"]
