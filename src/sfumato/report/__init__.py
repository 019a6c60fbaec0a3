"""Explanations as pages: one self-contained HTML file each."""

from sfumato.report import importance, segments
from sfumato.report.page import write_report
from sfumato.report.sections import Section, section

__all__ = ["Section", "importance", "section", "segments", "write_report"]
