"""One engine for many requests: a task asks one question of all of them, and the folder of the run is the record."""
