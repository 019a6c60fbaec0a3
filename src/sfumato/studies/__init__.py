"""Studies: questions of the sources, answered on many studio prompts by commands that anyone can run again."""
