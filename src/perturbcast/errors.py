"""The error tree: every message has a stable code, the fact, what is allowed, and the next step.

Codes by family: E1 names and conditions, E2 files, E3 values and scales, E4 splits, E5 models, E6 metrics,
E7 benchmark and report, E8 gene knowledge and networks, E9 downloads. E0 is our own fault.
A code is never reused or renumbered. The table in docs/ERRORS.md is generated from this file.
"""

from collections.abc import Iterable
from typing import ClassVar


class PerturbcastError(Exception):
    """Root of the tree. `code` is stable, the docstring is the cause, `remedy` the default next step."""

    code: ClassVar[str] = "E000"
    remedy: ClassVar[str] = ""
    exit_status: ClassVar[int] = 2

    def __init__(self, fact: str, next_step: str | None = None) -> None:
        self.fact = " ".join(fact.split())  # one line, whatever a file's labels hold
        self.next_step = self.remedy if next_step is None else next_step
        super().__init__(str(self))

    def __str__(self) -> str:
        text = f"{self.code} {type(self).__name__}: {self.fact}"
        return f"{text} {self.next_step}".rstrip()

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.fact, self.next_step)


class DefectError(PerturbcastError):
    """A promise of ours was broken inside the program."""

    code = "E001"
    remedy = "This is a defect of perturbcast: please report it with the command that led here."
    exit_status = 1


# ---------------------------------------------------------------------------------------- E1 names and conditions
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


# ---------------------------------------------------------------------------------------------------------- E2 files
class FileError(PerturbcastError):
    """A file cannot be read or written."""

    code = "E200"
    remedy = "Check the path."


class MissingFile(FileError):
    """There is no file of that name."""

    code = "E201"
    remedy = "Check the path."


class NotAFile(FileError):
    """The path is a folder where a file is needed, or a file where a folder is needed."""

    code = "E202"
    remedy = "Pass the path of the file itself."


class UnreadableFile(FileError):
    """The file exists, but may not be read."""

    code = "E203"
    remedy = "Check its permissions."


class NotHDF5(FileError):
    """The file is not an HDF5 file, so no .h5ad."""

    code = "E204"
    remedy = "Write it with adata.write_h5ad()."


class TruncatedFile(FileError):
    """The file ends early or its contents are damaged."""

    code = "E205"
    remedy = "Copy or download it again."


class NotAnnData(FileError):
    """The file is HDF5, but holds no AnnData object."""

    code = "E206"
    remedy = "Write it with adata.write_h5ad()."


class OutputExists(FileError):
    """The output is there already and was made by something else."""

    code = "E207"
    remedy = "Choose another --out, or remove it."


class UnknownFormat(FileError):
    """The ending of the output file names no format that can be written."""

    code = "E208"
    remedy = "Use .h5ad, .parquet or .csv."


class NotWritable(FileError):
    """The output cannot be written there."""

    code = "E209"
    remedy = "Choose another --out."


class CannotStream(FileError):
    """The matrix is stored by columns (CSC), so its rows cannot be read one block after another."""

    code = "E210"
    remedy = "Read it in memory, or write it by rows: adata.X = adata.X.tocsr()."


# ----------------------------------------------------------------------------------------------- E3 values and scales
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


# --------------------------------------------------------------------------------------------------------- E4 splits
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


# --------------------------------------------------------------------------------------------------------- E5 models
class ModelError(PerturbcastError):
    """A model cannot be made, fitted or used as asked."""

    code = "E500"
    remedy = "See `perturbcast models`."


class UnknownModel(ModelError):
    """No model of that name."""

    code = "E501"
    remedy = "See `perturbcast models`."


class UnknownProfile(ModelError):
    """The model has no profile of that name."""

    code = "E502"
    remedy = "See `perturbcast models`."


class CannotPredict(ModelError):
    """The model has nothing to base a prediction of this query on."""

    code = "E503"
    remedy = "Use a model that can, or give it knowledge of the target (--genes, --networks)."


class NeedsCells(ModelError):
    """The model learns from cells, and the data are responses."""

    code = "E504"
    remedy = "Give it a screen of cells, or choose a model that reads responses."


class NeedsKnowledge(ModelError):
    """The model needs gene tables or networks that were not given."""

    code = "E505"
    remedy = "Pass --genes or --networks."


class NotEnoughTraining(ModelError):
    """Too few training conditions to fit this model."""

    code = "E506"
    remedy = "Use a simpler model, or more conditions."


class BadArtefact(ModelError):
    """A saved model cannot be read: damaged, of another kind, or of a later version."""

    code = "E507"
    remedy = "Fit it again, or install the version named."


class UnknownContext(ModelError):
    """The context was not in training."""

    code = "E508"
    remedy = "Ask for a context of the training data."


class GenesDiffer(ModelError):
    """The genes of two tables that must agree do not."""

    code = "E509"
    remedy = "Use the genes that the model was trained on."


class Diverged(ModelError):
    """The fit gave values that are not finite."""

    code = "E510"
    remedy = "Check the scale of the data, or strengthen the regularisation."


class TrainingDiverged(ModelError):
    """Training came upon a value that is not finite, or the loss left all bounds."""

    code = "E511"
    remedy = "Lower the learning rate or clip gradients; the last good checkpoint is untouched."


class OtherTraining(ModelError):
    """A folder of checkpoints belongs to another training: other data, settings or seed."""

    code = "E512"
    remedy = "Choose another folder, or remove it."


class BadCheckpoint(ModelError):
    """A checkpoint cannot be read: damaged, or of another network."""

    code = "E513"
    remedy = "Remove it and train again."


class NoDevice(ModelError):
    """The devices, precision or logger asked for are not at hand."""

    code = "E514"
    remedy = "Ask for what this machine has, such as --devices 1."


class NotCounts(ModelError):
    """A model of counts was given values that are not whole molecules."""

    code = "E515"
    remedy = "Name the layer that holds the counts with --layer, or choose --set likelihood=normal."


class NoArtefactModel(ModelError):
    """The model does not tell artefacts of cells from effects of perturbations, so it cannot clean cells."""

    code = "E516"
    remedy = "Fit cradle-vae or gpo-vae on a screen in which some cells fail the limits of quality."


class NoPassingCell(ModelError):
    """Every cell fails the limits of quality, so there is none to liken the cleaned ones to."""

    code = "E517"
    remedy = "Look at the labels of quality, or name a column with better ones with --quality."


# -------------------------------------------------------------------------------------------------------- E6 metrics
class MetricError(PerturbcastError):
    """A metric cannot be computed."""

    code = "E600"
    remedy = "See the metric's card."


class UnknownMetric(MetricError):
    """No metric of that name."""

    code = "E601"
    remedy = "See docs/METRICS.md."


class MetricNeeds(MetricError):
    """The metric reads something that these data do not have."""

    code = "E602"
    remedy = "Leave it out, or give what it reads."


class UndefinedScore(MetricError):
    """The metric is undefined for these values, such as a correlation without variance."""

    code = "E603"
    remedy = "Nothing to do: the row says so and counts as stated on the card."


class ShapesDiffer(MetricError):
    """Prediction and truth do not have the same queries and genes."""

    code = "E604"
    remedy = "Align them first."


# ------------------------------------------------------------------------------------------- E7 benchmark and report
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


# ------------------------------------------------------------------------------------ E8 gene knowledge and networks
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


# ------------------------------------------------------------------------------------------------------ E9 downloads
class DownloadError(PerturbcastError):
    """A data set cannot be fetched."""

    code = "E900"
    remedy = "Check the connection."


class UnknownDataset(DownloadError):
    """No public data set of that name is listed."""

    code = "E901"
    remedy = "See `perturbcast data list`."


class Offline(DownloadError):
    """The server cannot be reached."""

    code = "E902"
    remedy = "Fetch the file by hand from the address given and pass its path."


class ChecksumDiffers(DownloadError):
    """The file that came is not the one expected."""

    code = "E903"
    remedy = "Delete it and fetch it again; if it stays so, the source has changed."


class SourceGone(DownloadError):
    """The server answers, but does not hand out the file: moved, withdrawn or behind a login."""

    code = "E904"
    remedy = "Fetch the file by hand from its page and pass its path."


class UnexpectedContent(DownloadError):
    """What came is neither an .h5ad file nor a sound archive with one inside."""

    code = "E905"
    remedy = "Look at the source by hand; the file was removed."


def nearest(name: str, known: Iterable[str], *, most: int = 3) -> list[str]:
    """The known names most like `name`, best first, without regard to case."""
    from difflib import get_close_matches

    by_folded = {candidate.casefold(): candidate for candidate in known}
    return [by_folded[match] for match in get_close_matches(name.casefold(), by_folded, n=most, cutoff=0.5)]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence that offers the nearest known names, or lists what is known."""
    known = list(known)
    close = nearest(name, known)
    if close:
        return "Nearest: " + ", ".join(repr(match) for match in close) + "."
    listed = ", ".join(repr(match) for match in sorted(known)[:12])
    return f"Known: {listed}{', ...' if len(known) > 12 else '.'}"
