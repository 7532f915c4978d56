"""E2: files."""

from perturbcast.errors.tree import PerturbcastError


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
