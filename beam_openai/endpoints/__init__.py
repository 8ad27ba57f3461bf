"""One file for each endpoint: what it asks, what it answers."""
