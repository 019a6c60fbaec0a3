"""Explanations as pages, one self-contained HTML file each, and as folders with all that belongs to a result."""

from sfumato.report import importance, process, reference, segments, steps, trust
from sfumato.report.folder import write_result
from sfumato.report.page import write_report
from sfumato.report.sections import Section, section

__all__ = [
    "Section",
    "importance",
    "process",
    "reference",
    "section",
    "segments",
    "steps",
    "trust",
    "write_report",
    "write_result",
]
