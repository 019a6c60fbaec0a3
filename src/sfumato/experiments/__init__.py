"""Experiments over many seeds: does what the source found hold on this model?"""
