"""What is attached to a generation to observe it without changing it: attention, activations, references, samples."""
