"""Files and folders that appear whole or not at all, and that never take the place of what Sfumato did not write."""
