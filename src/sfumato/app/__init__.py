"""The web page: a person who does not program sees where, which, when and what-if.

``serving.serve`` opens it. ``page`` is what it shows: a file in ``tabs`` for each question, made of ``charts`` and of
``pieces``, components of our own whose scripts are in ``static``. ``asking`` reads what visitors ask and asks the
models. ``server`` stands behind: the guard, the workers that own models, the visitors and what they keep.
"""
