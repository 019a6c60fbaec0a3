"""The web page: a person who does not program sees where, which, when and what-if.

``serving.serve`` opens it. ``page`` is what it shows, a file in ``tabs`` for each question; ``pieces`` are what tabs
are made of. ``workers`` run what takes long, one at a time for each model; ``visitors`` keep what each browser was
given; ``guard`` stands before all of it.
"""
