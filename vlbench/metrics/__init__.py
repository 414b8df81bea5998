"""Scorers in numpy and the standard library, each pinned to the official one."""
