"""What several tasks share: prompts and items, contenders, maps, readings, and how a sentence is parsed."""
