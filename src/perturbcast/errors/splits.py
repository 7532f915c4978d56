"""E4: splits."""

from perturbcast.errors.tree import PerturbcastError


class SplitError(PerturbcastError):
    """A split cannot be made or must not be used."""

    code = "E400"
    remedy = "Choose another split."


class LeakError(SplitError):
    """The training side knows something of the test side."""

    code = "E401"
    remedy = "Mend the split, or pass --allow-leaks to score it all the same; the report will say so."


class TooFewConditions(SplitError):
    """There are too few conditions, doubles or contexts for this split."""

    code = "E402"
    remedy = "Choose a split that the data can carry; `perturbcast inspect` lists them."


class UnknownSplit(SplitError):
    """No split rule of that name."""

    code = "E403"
    remedy = "Use cells, singles, doubles, doubles-by-seen, gears, contexts or a split file."


class BadSplitFile(SplitError):
    """A split file cannot be read, or names conditions that the data do not have."""

    code = "E404"
    remedy = "A split file has the columns condition and side (train, valid or test)."
