"""Explanations: what they hold, how they are stored whole or not at all, and how their maps are upscaled."""

from sfumato.results.explanation import Explanation
from sfumato.results.opening import open
from sfumato.results.schema import SchemaError
from sfumato.results.upscale import bicubic, bicubic_matrix
from sfumato.writing.folders import write_folder

__all__ = ["Explanation", "SchemaError", "bicubic", "bicubic_matrix", "open", "write_folder"]
