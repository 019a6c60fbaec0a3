"""Pictures from explanations; matplotlib is loaded when the first one is drawn."""

from sfumato.plots.importance import importance_sheet
from sfumato.plots.overlays import overlay
from sfumato.plots.segments import segment_sheet
from sfumato.plots.sheets import process_sheets
from sfumato.plots.words import word_overlay, word_sheet

__all__ = ["importance_sheet", "overlay", "process_sheets", "segment_sheet", "word_overlay", "word_sheet"]
