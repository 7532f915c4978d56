"""Scales: what a number in an expression matrix means."""

from enum import StrEnum


class Scale(StrEnum):
    """The unit of expression values. Only counts are converted (to log1p CP10k); others are used as they are."""

    COUNTS = "counts"  # molecules
    LOG1P_CP10K = "log1p_cp10k"  # ln(1 + counts per 10,000)
    LOG1P_CPM = "log1p_cpm"  # ln(1 + counts per million)
    LOG_OTHER = "log_other"  # another logarithm: other base, other target sum
    ZSCORE = "zscore"  # standardised per gene
    RESPONSE = "response"  # already a difference to control

    @property
    def of_expression(self) -> "Scale":
        """The scale that expression has after reading: counts become log1p CP10k, others stay."""
        return Scale.LOG1P_CP10K if self is Scale.COUNTS else self
