"""Measurements of cost and of agreement with other packages; see README.md here and docs/benchmarks.md."""
