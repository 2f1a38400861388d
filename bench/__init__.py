"""Benchmarks that compare several servers in one run."""
