"""A generation that is observed: the pipeline's own call, what is attached to it, and what it leaves behind."""
