"""What a step frees stays for the next; what was freed before a training is given back."""

import platform
import subprocess
import sys

import pytest

STEPS = """
import resource, torch
from perturbcast.training.memory import keep_freed_memory
torch.set_num_threads(1)
KEEP
def step():
    kept = [torch.ones(3 * 2**20, dtype=torch.uint8) for _ in range(8)]
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF)
for _ in range(20):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before.ru_minflt)
"""


FREED = """
import torch
from perturbcast.training.memory import give_back_freed_memory
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
blocks = [torch.ones(2**14, dtype=torch.uint8) for _ in range(2000)]  # 32 MB, each too small for a map of its own
last = blocks[-1]
blocks.clear()
before = resident()
give_back_freed_memory()
print(before - resident())
"""


def page_faults(first: str) -> int:
    """Of 20 steps that each allocate eight blocks of 3 MB, in a fresh process."""
    code = STEPS.replace("KEEP", first)
    return printed(code)


def printed(code: str) -> int:
    """What the code prints in a fresh process."""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(run.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="how glibc keeps memory")
def test_steps_do_not_ask_the_system_for_the_memory_that_the_last_one_freed():
    assert page_faults("keep_freed_memory()") < 20


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be asked")
def test_memory_between_blocks_in_use_is_given_back():
    assert printed(FREED) > 20 * 2**20
