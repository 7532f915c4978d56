"""Benchmarks: plan, run, compare."""
