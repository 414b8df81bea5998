"""Lets ``python -m vlbench`` do what ``vlbench`` does."""

from vlbench.cli import main

main()
