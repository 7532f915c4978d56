"""E3: values and scales."""

from perturbcast.errors.tree import PerturbcastError


class ValuesError(PerturbcastError):
    """The numbers of a file are not what an expression matrix can be."""

    code = "E300"
    remedy = "Check how the matrix was made."


class EmptyScreen(ValuesError):
    """There are no cells, no genes, or no expression at all."""

    code = "E301"
    remedy = "Check the filters that made the file."


class NotFinite(ValuesError):
    """The matrix holds NaN or infinite values."""

    code = "E302"
    remedy = "Remove or fill them; zeros need not be stored."


class NegativeValues(ValuesError):
    """The matrix holds negative values, which neither counts nor log expression can have."""

    code = "E303"
    remedy = "Pass the counts (--layer), or --scale zscore if the matrix is scaled on purpose."


class UndecidedScale(ValuesError):
    """The scale of the matrix cannot be decided, or cells of different scales are mixed."""

    code = "E304"
    remedy = "Name it with --scale counts, log1p_cp10k, log1p_cpm, log_other, zscore or response."


class WrongScale(ValuesError):
    """The scale given contradicts the numbers, or two scales meet where one is needed."""

    code = "E305"
    remedy = "Bring both to one scale."


class NoMatrix(ValuesError):
    """The file has no X, or the layer named is missing."""

    code = "E306"
    remedy = "Name the layer with --layer, or --layer raw."


class TooFewCells(ValuesError):
    """Too few cells for the statistic asked for."""

    code = "E307"
    remedy = "Merge conditions, or leave out those with too few cells (--min-cells)."


class NoVariance(ValuesError):
    """Every measured value is the same."""

    code = "E308"
    remedy = "Check the layer and the filters that made the file."


class WrongKind(ValuesError):
    """A table of responses was given where cells are needed, or the other way round."""

    code = "E309"
    remedy = "Pass --kind cells or --kind response if the file was misread."


class NotNumbers(ValuesError):
    """The matrix holds text, objects or complex numbers."""

    code = "E310"
    remedy = "Name a layer of real numbers with --layer."
