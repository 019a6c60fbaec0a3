"""Runs over many requests: reading them from files of prompts, one row at a time."""
