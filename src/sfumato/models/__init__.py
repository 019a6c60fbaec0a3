"""What the methods must not guess about a pipeline: words, guidance branches, attention sites, clean estimates."""
