"""What a step frees stays for the next."""

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


def page_faults(first: str) -> int:
    """Of 20 steps that each allocate eight blocks of 3 MB, in a fresh process."""
    code = STEPS.replace("KEEP", first)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(run.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="how glibc keeps memory")
def test_steps_do_not_ask_the_system_for_the_memory_that_the_last_one_freed():
    assert page_faults("keep_freed_memory()") < 20
