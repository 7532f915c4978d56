"""Which of several processes this one is. Imports nothing, so that the command line may ask."""

import os

RANKS = (
    "RANK",
    "SLURM_PROCID",
    "PMI_RANK",
    "OMPI_COMM_WORLD_RANK",
    "LOCAL_RANK",
)  # torchrun, cluster managers, Lightning


def is_first_process() -> bool:
    """Whether this process is the first of those that torchrun, a cluster manager or Lightning started; alone it is.

    All of them run the whole command; the first one alone may write the result.
    """
    return next((int(os.environ[name]) for name in RANKS if name in os.environ), 0) == 0
