"""vlbench: an honest, fast, comparable answer for vision-language pre-training methods."""

__version__ = "0.1.0"
