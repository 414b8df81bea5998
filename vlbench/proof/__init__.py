"""Proof of fidelity: recorded cases of the authors' own code, read and rerun."""
