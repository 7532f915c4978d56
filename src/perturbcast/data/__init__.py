"""Screens, conditions, responses, splits, predictions, and the simulated world."""
