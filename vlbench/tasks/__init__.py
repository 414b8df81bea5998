"""One benchmark family a file: which examples, and how answers are scored. No torch."""
