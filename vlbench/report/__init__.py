"""Records and published numbers to tables."""
