"""How fast and how heavy methods are, beside each other and beside other people's code."""

from vlbench.bench.measure import bench
from vlbench.bench.report import BenchReport, show_bench

__all__ = ["BenchReport", "bench", "show_bench"]
