"""Explanations as pages: one self-contained HTML file each."""

from sfumato.report import importance, process, segments, steps
from sfumato.report.page import write_report
from sfumato.report.sections import Section, section

__all__ = ["Section", "importance", "process", "section", "segments", "steps", "write_report"]
