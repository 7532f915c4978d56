"""The error tree: every message has a stable code, the fact, what is allowed, and the next step.

Codes by family: E1 names and conditions, E2 files, E3 values and scales, E4 splits, E5 models, E6 metrics,
E7 benchmark and report, E8 gene knowledge and networks, E9 downloads. E0 is our own fault.
A code is never reused or renumbered. The table in docs/ERRORS.md is generated from these files, one a family. Every
name is imported from here.
"""

from perturbcast.errors.benchmarks import (
    BenchmarkError,
    NotABenchmark,
    NothingToScore,
    OtherRun,
    ProcessLost,
)
from perturbcast.errors.downloads import (
    ChecksumDiffers,
    DownloadError,
    Offline,
    SourceGone,
    UnexpectedContent,
    UnknownDataset,
)
from perturbcast.errors.files import (
    CannotStream,
    FileError,
    MissingFile,
    NotAFile,
    NotAnnData,
    NotHDF5,
    NotWritable,
    OutputExists,
    TruncatedFile,
    UnknownFormat,
    UnreadableFile,
)
from perturbcast.errors.knowledge import (
    AmbiguousGeneName,
    BadKnowledge,
    BadNetwork,
    KnowledgeError,
    MissingExtra,
    NoEvaluablePair,
    NoOverlap,
    UnknownGeneName,
    UnknownGenes,
    UnknownKnowledge,
    UnknownMethod,
)
from perturbcast.errors.metrics import (
    MetricError,
    MetricNeeds,
    ShapesDiffer,
    UndefinedScore,
    UnknownMetric,
)
from perturbcast.errors.models import (
    BadArtefact,
    BadCheckpoint,
    CannotPredict,
    Diverged,
    GenesDiffer,
    ModelError,
    NeedsCells,
    NeedsKnowledge,
    NoArtefactModel,
    NoDevice,
    NoPassingCell,
    NotCounts,
    NotEnoughTraining,
    OtherTraining,
    TrainingDiverged,
    UnknownContext,
    UnknownModel,
    UnknownProfile,
)
from perturbcast.errors.naming import (
    BadCondition,
    BadOption,
    DuplicatedCells,
    DuplicatedColumns,
    DuplicatedGenes,
    NamingError,
    NoControl,
    NoPerturbationColumn,
    UnknownColumn,
    UnknownControl,
    UnknownOption,
    UnknownTarget,
)
from perturbcast.errors.splits import (
    BadSplitFile,
    LeakError,
    SplitError,
    TooFewConditions,
    UnknownSplit,
)
from perturbcast.errors.tree import (
    DefectError,
    PerturbcastError,
    did_you_mean,
    nearest,
)
from perturbcast.errors.values import (
    EmptyScreen,
    NegativeValues,
    NoMatrix,
    NotFinite,
    NotNumbers,
    NoVariance,
    TooFewCells,
    UndecidedScale,
    ValuesError,
    WrongKind,
    WrongScale,
)
