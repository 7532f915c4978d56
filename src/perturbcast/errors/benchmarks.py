"""E7: benchmark and report."""

from perturbcast.errors.tree import PerturbcastError


class BenchmarkError(PerturbcastError):
    """A benchmark cannot be planned, run or read."""

    code = "E700"
    remedy = "See `perturbcast benchmark --help`."


class OtherRun(BenchmarkError):
    """The folder holds another benchmark than the one asked for."""

    code = "E701"
    remedy = "Choose another --out, or repeat the command that the folder was made with."


class NotABenchmark(BenchmarkError):
    """The folder holds no benchmark."""

    code = "E702"
    remedy = "Pass the --out folder of `perturbcast benchmark`."


class NothingToScore(BenchmarkError):
    """No model gave a prediction that can be scored."""

    code = "E703"
    remedy = "Read the column `reason` of scores.parquet."


class ProcessLost(BenchmarkError):
    """A process of the benchmark ended before its work was done, as when memory ran out."""

    code = "E704"
    remedy = "Use fewer --jobs; the same command goes on where it stopped."
