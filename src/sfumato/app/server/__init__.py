"""Behind the page: the guard before it, the workers that own models, the visitors and what they keep."""
