"""Where a dataset is to be downloaded from, and under which terms."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from kptools.console import report
from kptools.errors import UsageError
from kptools.options import Option

OPTIONS = (
    Option("download", bool, False, "Download it first, to ROOT or ./data, where it is not there."),
    Option("accept_terms", bool, False, "Agree with its terms, which --download shows without."),
    Option("url", str, None, "Of a mirror.", "URL"),
    Option("sha256", str, None, "What its SHA-256 is to be.", "HEX"),
)


@dataclass(frozen=True)
class Source:
    """A tar or zip file at `url`, which unpacks to `folder`; `terms` are lines."""

    url: str
    folder: str
    terms: str


def fetch(
    source: Source,
    root: str | None,
    data: str,
    accept_terms: bool,
    url: str | None,
    sha256: str | None,
    bar: AbstractContextManager[Callable[[int, int], None]],
) -> str:
    """The folder of the dataset: `root`, or that below `data`; downloaded and unpacked where it is
    not there. Raises UsageError, KptoolsError."""
    folder = Path(root if root is not None else data) / ("" if root is not None else source.folder)
    if folder.is_dir() and any(folder.iterdir()):
        report(f"kp-prep: {folder} is there already; nothing is downloaded")
        return str(folder)
    if not accept_terms:
        raise UsageError(f"--download: {source.terms} Agree with --accept-terms")

    from kptools.storage import download, files, unpack

    address = url or source.url
    name = Path(urlsplit(address).path).name or "download"
    archive = folder.with_name(name)
    files.make_folder(archive.parent)
    with bar as progress:
        digest = download.fetch(address, archive, sha256, progress)
    report(f"kp-prep: {archive}: SHA-256 {digest}")
    unpack.unpack(archive, folder)
    archive.unlink()
    return str(folder)
