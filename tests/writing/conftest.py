"""A stored and an unstored explanation."""

from tests.results.conftest import made, stored

__all__ = ["made", "stored"]
