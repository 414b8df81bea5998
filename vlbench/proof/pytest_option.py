"""Gives pytest the option ``--official DIR``: the conformance tests run on DIR instead of the checkout's copies.

A plug-in, as pytest must know the option before it looks for the tests' own conftest.
"""

from __future__ import annotations

from typing import Any


def pytest_addoption(parser: Any) -> None:
    """Register the option."""
    parser.addoption(
        "--official",
        metavar="DIR",
        default=None,
        help="folder with parity/<model>/<case>/ and metrics/<metric>/cases.json (default: tests/official)",
    )


def pytest_configure(config: Any) -> None:
    """Import tests as pyproject.toml says even where pytest took DIR for the place of its configuration."""
    config.addinivalue_line("markers", "gpu: needs a CUDA device")
    config.addinivalue_line("markers", 'slow: takes long; leave out with -m "not slow"')
    if config.getoption("--official") and config.inipath is None:
        config.option.importmode = "importlib"
