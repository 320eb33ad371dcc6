"""The kind cluster that demo and tests run on, and everything it is made of."""
