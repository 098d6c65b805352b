"""Files and folders that a job on a cluster reads and writes, on any file system that pyarrow knows."""

from collections.abc import Collection, Sequence
from pathlib import Path

from pyarrow.fs import FileSelector, FileSystem, FileType

from adamix_train.errors import DataError


def absolute(place: str) -> str:
    """Return a path that leads to the same place from any folder; a URI as it is."""
    return place if "://" in place else str(Path(place).resolve())


def located(place: str) -> tuple[FileSystem, str]:
    """Return the file system of a path or URI, and the path there.

    Raises:
        DataError: pyarrow does not know such a URI.
    """
    try:
        system, path = FileSystem.from_uri(absolute(place))
    except ValueError as error:
        raise DataError(f"{place} is no path, and no URI that pyarrow knows ({error})") from error
    return system, path


def suffix_of(place: str) -> str:
    """Return the suffix of a file or folder, in small letters; empty if it has none."""
    return Path(place.rstrip("/")).suffix.lower()


def files_of(place: str) -> Sequence[str]:
    """Return the paths of a file, or of all files in a folder."""
    system, path = located(place)
    if system.get_file_info(path).is_file:
        return [path]
    return [one.path for one in system.get_file_info(FileSelector(path, recursive=True)) if one.is_file]


def form_of(source: str, suffixes: Collection[str]) -> str:
    """Return the suffix of the files that are read: that of the file, or of those in the folder.

    Raises:
        DataError: There is no file or folder, or it has no one form.
    """
    system, path = located(source)
    if system.get_file_info(path).type == FileType.NotFound:
        raise DataError(f"there is no file or folder {source}")
    found = sorted({suffix_of(one) for one in files_of(source)} & set(suffixes))
    if len(found) != 1:
        listed = ", ".join(found) or "none"
        raise DataError(f"{source} has files of the forms {listed}: give files of one of {', '.join(suffixes)}")
    return found[0]


def check_apart(out: str, read: Sequence[str]) -> None:
    """Raise a DataError if the output is, holds or lies in something that is read: replacing it would remove that."""
    system, path = located(out)
    for place in read:
        other, other_path = located(place)
        if system.equals(other) and (_holds(path, other_path) or _holds(other_path, path)):
            raise DataError(f"--out {out} and {place}, which is read, lie one in the other: write elsewhere")


def make_room(out: str, *, force: bool, suffixes: Collection[str]) -> None:
    """Remove the output that is replaced, or refuse to.

    Args:
        out: File or folder.
        force: It may be replaced.
        suffixes: Those of the files that an output has.

    Raises:
        DataError: It exists, and is not to be replaced, or is more than an output.
    """
    system, path = located(out)
    info = system.get_file_info(path)
    if info.type == FileType.NotFound:
        return
    if not force:
        raise DataError(f"{out} exists: give another folder, or --force to replace it")
    inside = [] if info.is_file else system.get_file_info(FileSelector(path, recursive=True))
    if others := [one.path for one in inside if not one.is_file or suffix_of(one.path) not in {*suffixes, ".json"}]:
        raise DataError(f"{out} holds {others[0]}, which is no file of rows: --force replaces folders of rows alone")
    remove(out)


def remove(place: str) -> None:
    """Remove a file or folder, if it is there."""
    system, path = located(place)
    info = system.get_file_info(path)
    if info.type == FileType.Directory:
        system.delete_dir(path)
    elif info.is_file:
        system.delete_file(path)


def _holds(outer: str, inner: str) -> bool:
    return Path(inner).is_relative_to(outer)
