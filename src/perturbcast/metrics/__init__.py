"""Metrics: pure functions with cards."""
