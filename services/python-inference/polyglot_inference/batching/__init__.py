"""Which waiting calls a model runs together, and how their rows are put together and told apart."""
