"""Explanations: what they hold, how they are stored whole or not at all, and how their maps are upscaled."""

from sfumato.results.explanation import Explanation
from sfumato.results.folders import write_folder
from sfumato.results.schema import SchemaError
from sfumato.results.store import open
from sfumato.results.upscale import bicubic, bicubic_matrix

__all__ = ["Explanation", "SchemaError", "bicubic", "bicubic_matrix", "open", "write_folder"]
