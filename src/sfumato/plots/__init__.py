"""Pictures from explanations; matplotlib is loaded when the first one is drawn."""

from sfumato.plots.importance import importance_sheet
from sfumato.plots.overlays import overlay
from sfumato.plots.segments import segment_sheet
from sfumato.plots.words import word_overlay, word_sheet

__all__ = ["importance_sheet", "overlay", "segment_sheet", "word_overlay", "word_sheet"]
