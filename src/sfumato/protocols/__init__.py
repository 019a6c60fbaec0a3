"""Published evaluations as they were described: their prompts, their truth, their measures."""
