"""E8: gene knowledge and networks."""

from perturbcast.errors.tree import PerturbcastError


class KnowledgeError(PerturbcastError):
    """Gene knowledge cannot be read or used."""

    code = "E800"
    remedy = "See docs/KNOWLEDGE.md."


class UnknownKnowledge(KnowledgeError):
    """A file given as knowledge is of no recognised kind."""

    code = "E801"
    remedy = "Pass gene tables, summaries, sequences, embedding tables, edge files or GMT gene sets."


class BadKnowledge(KnowledgeError):
    """A file of gene knowledge is damaged or inconsistent."""

    code = "E802"
    remedy = "Check the line named."


class NoOverlap(KnowledgeError):
    """A file of gene knowledge names none of the genes at hand."""

    code = "E803"
    remedy = "Check species and naming (symbols or Ensembl ids)."


class BadNetwork(KnowledgeError):
    """A network has values that no network can have, or its file is damaged."""

    code = "E804"
    remedy = "Weights are finite and not negative, signs -1, 0 or 1, and each edge stands once."


class UnknownMethod(KnowledgeError):
    """No method of network inference has that name."""

    code = "E805"
    remedy = "See docs/NETWORKS.md."


class UnknownGenes(KnowledgeError):
    """A network names genes that the data do not have."""

    code = "E806"
    remedy = "Check species and naming, or drop them with unknown='drop'."


class NoEvaluablePair(KnowledgeError):
    """No pair of genes can be inferred or scored: no gene is both perturbed and measured in enough cells."""

    code = "E807"
    remedy = "Use a screen whose targets are among its genes, or lower the number of cells asked for."


class UnknownGeneName(KnowledgeError):
    """No gene of the gene table has that symbol, alias or id."""

    code = "E808"
    remedy = "Check spelling and species, or pass a newer gene table."


class AmbiguousGeneName(KnowledgeError):
    """A name that several genes have as an alias or previous symbol."""

    code = "E809"
    remedy = "Write the current symbol or the Ensembl id of the gene meant."


class MissingExtra(KnowledgeError):
    """A package that only some knowledge needs is not installed."""

    code = "E810"
    remedy = "Install the extra named, such as pip install 'perturbcast[text]'."
