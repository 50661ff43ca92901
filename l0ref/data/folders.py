"""The folder of the data files: argument, then environment, then cache; and the search for a data set in it."""

from __future__ import annotations

import os
from pathlib import Path

from l0ref.errors import DataError

ENVIRONMENT = "L0REF_DATA_DIR"
DOWNLOADED = ("mnist", "fashion-mnist")  # data sets that are downloaded, not shipped
FILES = (  # the same four names for both, in the order of their checksum
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def data_folder(data_dir: str | os.PathLike[str] | None = None) -> Path:
    """`data_dir` if given, else the environment variable L0REF_DATA_DIR if set, else ~/.cache/l0ref."""
    named = data_dir if data_dir is not None else os.environ.get(ENVIRONMENT) or None
    try:
        return Path(named).expanduser() if named is not None else Path.home() / ".cache" / "l0ref"
    except RuntimeError:
        what = f"data_dir={os.fspath(named)!r} is in" if named is not None else f"no data_dir and no {ENVIRONMENT}, and"
        raise DataError(f"{what} a home folder that is not known; name the folder of the files in full") from None


def find_files(name: str, folder: Path) -> list[Path]:
    """The four files of `name`, in the order of `FILES`, each with or without `.gz`, from one folder.

    Looks in `folder/name` first, then in `folder` itself. MNIST and Fashion-MNIST use the same file
    names, so a folder that has the name of the other data set is not used.
    """
    places = [folder / name]
    if folder.absolute().name not in {*DOWNLOADED} - {name}:
        places.append(folder)
    missing = []
    for place in places:
        found = [next((path for path in _spellings(place, file) if path.exists()), None) for file in FILES]
        if None not in found:
            return [path for path in found if path is not None]
        missing += [str(_spellings(place, file)[0]) for file, path in zip(FILES, found, strict=True) if path is None]
    raise DataError(
        f"name={name!r}: {missing[0]} is missing (looked in {' and '.join(map(str, places))}); "
        f"run `l0ref data fetch {name}` or name the folder that holds the four files with data_dir"
    )


def _spellings(place: Path, file: str) -> tuple[Path, Path]:
    return place / f"{file}.gz", place / file
