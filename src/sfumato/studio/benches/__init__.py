"""The benches of ``sfumato bench`` on studio prompts: methods against what the reader finds in the images."""
