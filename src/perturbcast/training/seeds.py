"""Seeds derived from seeds, and a stretch of code with a random state of its own."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derived_seed(seed: int, *parts: int | str) -> int:
    """A seed for one purpose, such as one step: independent streams, the same on every machine; below 2⁶³."""
    text = "/".join(str(part) for part in (seed, *parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def reseed(seed: int, device: torch.device) -> None:
    """Seeds the global generator that computing on a device draws from.

    On the CPU alone, because torch formats the call stack once per kind of accelerator that it might have to seed
    later: 2 ms at every step.
    """
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """torch's global generators seeded inside, and afterwards as they were."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
