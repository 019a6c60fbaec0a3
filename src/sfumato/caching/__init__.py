"""What may be lost at any time: a cache of arrays that prunes itself, and images made once for each request."""
