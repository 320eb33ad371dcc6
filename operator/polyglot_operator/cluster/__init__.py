"""The only door to the API server: what is written, what exists, and what the cluster can do."""
