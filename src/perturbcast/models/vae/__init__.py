"""Models of the VAE family that are not listed yet: a file moved up into `models/` is (docs/TRAINING.md)."""
