"""One published method a file, in the order of its paper."""
