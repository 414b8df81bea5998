"""Options and evidence that all tests share.

``pytest --official=DIR`` runs the conformance tests on DIR/metrics and DIR/parity instead of the copies here.
Written with a blank, name the tests too (``pytest tests --official DIR``): pytest looks for options it does
not know yet in the first folder it is given, and would take DIR for that.
"""

from __future__ import annotations

from pathlib import Path

import pytest

OFFICIAL = Path(__file__).parent / "official"


def official_folder(config: pytest.Config) -> Path:
    """Return the evidence folder in use; a usage error where there is none."""
    folder = config.invocation_params.dir / (config.getoption("--official") or OFFICIAL)
    if not (folder / "metrics").is_dir() and not (folder / "parity").is_dir():
        raise pytest.UsageError(f"--official {folder}: holds neither metrics/ nor parity/")
    return folder


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give ``metric_folder`` every folder of DIR/metrics, and ``parity_case`` every case of DIR/parity."""
    for name, pattern, depth in (("metric_folder", "metrics/*/", 1), ("parity_case", "parity/*/*/", 2)):
        if name in metafunc.fixturenames:
            found = sorted(path for path in official_folder(metafunc.config).glob(pattern) if path.is_dir())
            metafunc.parametrize(name, found, ids=["/".join(path.parts[-depth:]) for path in found])


@pytest.fixture(name="official_folder", scope="session")
def official_folder_fixture(pytestconfig: pytest.Config) -> Path:
    """The folder of official evidence: tests/official, or what ``--official`` names."""
    return official_folder(pytestconfig)
