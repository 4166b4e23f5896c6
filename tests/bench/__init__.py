"""Benchmarks: each figure beside its floor, in one run. `make bench`, or `make bench BENCH=mapping`."""
