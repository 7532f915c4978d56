"""Memory that is freed: kept for the next step of a training, given back where one begins and ends."""

import ctypes
import sys

import torch

MOST_KEPT = 2**25 - 2**13  # bytes: just below the largest block whose release moves the thresholds of glibc


def keep_freed_memory() -> None:
    """Lets glibc keep up to 64 MB that a step frees for the next one, instead of asking the system for it again.

    glibc gives freed memory back above a threshold, which is twice the largest block of up to 32 MB that was freed so
    far (mallopt(3), M_MMAP_THRESHOLD). So one such block is asked for and freed; its memory is never touched, so it
    costs none. Without it, steps of many blocks of a few MB spend up to a third of their time on page faults. Elsewhere
    nothing changes.
    """
    torch.empty(MOST_KEPT, dtype=torch.uint8)


def give_back_freed_memory() -> None:
    """Lets glibc return what was freed and lies between blocks in use, some MB after files were read; else nothing.

    Source: malloc_trim(3).
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have none
        if trim is not None:
            trim(0)
