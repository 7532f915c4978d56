"""Predict how cells respond to genetic perturbations, and say how far each prediction can be trusted."""

__version__ = "0.1.0"
