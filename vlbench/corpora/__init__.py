"""What methods are pre-trained on: random access to corpora of any size, in memory that does not grow with them."""
