"""E9: downloads."""

from perturbcast.errors.tree import PerturbcastError


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
