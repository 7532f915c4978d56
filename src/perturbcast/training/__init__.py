"""The one engine that trains every model by gradient, on Lightning Fabric (docs/TRAINING.md)."""
