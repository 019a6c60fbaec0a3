"""Observing a generation without changing it: temporary hooks, the step clock, attention."""
