"""Where shards are measured: in this process, in several, or on a cluster of Ray."""
