"""Scores that any method can be judged by, with controls and intervals beside them."""

from sfumato.metrics.controls import CONTROLS
from sfumato.metrics.correlation import rank_correlation
from sfumato.metrics.imacs import imacs
from sfumato.metrics.importance import ranks, ranks_aligned, rmse
from sfumato.metrics.intervals import bootstrap
from sfumato.metrics.localisation import average_precision, box, box_iou, coverage, hard, iou, miou, pointing
from sfumato.metrics.overlap import Overlap, overlap
from sfumato.metrics.registry import Metric, find_metric, metric, metrics
from sfumato.metrics.separation import Separation, separation
from sfumato.metrics.spread import effective_area
from sfumato.metrics.tables import LocalisationTable, localisation_scores, localisation_table
from sfumato.metrics.verdicts import Decision, Outcome, every, lies, some, verdict_of
from sfumato.results.interval import Interval

__all__ = [
    "CONTROLS",
    "Decision",
    "Interval",
    "LocalisationTable",
    "Metric",
    "Outcome",
    "Overlap",
    "Separation",
    "average_precision",
    "bootstrap",
    "box",
    "box_iou",
    "coverage",
    "effective_area",
    "every",
    "find_metric",
    "hard",
    "imacs",
    "iou",
    "lies",
    "localisation_scores",
    "localisation_table",
    "metric",
    "metrics",
    "miou",
    "overlap",
    "pointing",
    "rank_correlation",
    "ranks",
    "ranks_aligned",
    "rmse",
    "separation",
    "some",
    "verdict_of",
]
