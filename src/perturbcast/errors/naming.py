"""E1: names and conditions."""

from perturbcast.errors.tree import PerturbcastError


class NamingError(PerturbcastError):
    """Something named in a file or an argument is not what it should be."""

    code = "E100"
    remedy = "Check the name."


class NoControl(NamingError):
    """No condition label is recognised as control."""

    code = "E101"
    remedy = "Name the control label with --control."


class UnknownControl(NamingError):
    """The control label given is not among the condition labels."""

    code = "E102"
    remedy = "Pass one of the labels of the perturbation column to --control."


class BadCondition(NamingError):
    """A condition label cannot be read as targets."""

    code = "E103"
    remedy = "Write conditions as A, A+B or ctrl; name another separator with --separator."


class UnknownTarget(NamingError):
    """A target is neither measured nor in any gene table."""

    code = "E104"
    remedy = "Pass --genes with a gene table that has it, or correct the name."


class UnknownColumn(NamingError):
    """A column named by the user is not in the file."""

    code = "E105"
    remedy = "Pass one of the columns of obs."


class NoPerturbationColumn(NamingError):
    """No column of obs looks like perturbations, or several do equally well."""

    code = "E106"
    remedy = "Name the column with --perturbation."


class DuplicatedGenes(NamingError):
    """A gene name stands more than once among the measured genes."""

    code = "E107"
    remedy = "Make var_names unique, or pass --duplicates sum or --duplicates first."


class DuplicatedCells(NamingError):
    """A cell barcode stands more than once."""

    code = "E108"
    remedy = "Call adata.obs_names_make_unique() and write the file again."


class UnknownOption(NamingError):
    """A field, key or option does not exist."""

    code = "E109"
    remedy = "Use one of the names listed."


class BadOption(NamingError):
    """A field, key or option has a value outside its range."""

    code = "E110"
    remedy = "Pass a value in the range given."


class DuplicatedColumns(NamingError):
    """Several columns of obs have one name."""

    code = "E111"
    remedy = "Rename them, so that each column of obs has its own name."
