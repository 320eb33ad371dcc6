"""The models of this process."""
