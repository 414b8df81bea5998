"""Every recorded case of the authors' own code comes out of our models, through our rename tables."""

from pathlib import Path

import torch

from vlbench.proof.parity import check_case


def test_parity(parity_case: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the cases were recorded
    try:
        check = check_case(parity_case.parents[2], parity_case.parent.name, parity_case.name)
    finally:
        torch.set_num_threads(threads)
    assert check.passed, f"{check.name}: error {check.error:.2e} > {check.tolerance:.0e}; {check.note}"


def test_an_unknown_parity_case_fails(tmp_path: Path) -> None:
    assert not check_case(tmp_path, "lxmert", "unheard-of").passed
    assert not check_case(tmp_path, "no-such-model", "backbone").passed
