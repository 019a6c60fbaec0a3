"""Segments: parts of an image, found in one of three ways, and which words they go with."""

from sfumato.segments.matching import Matches, match
from sfumato.segments.regions import regions
from sfumato.segments.sam import sam_segments
from sfumato.segments.segment import Segment, ranked

__all__ = ["Matches", "Segment", "match", "ranked", "regions", "sam_segments"]
