"""What to do next: which service is due, what differs from what it should be, and what its status says."""
