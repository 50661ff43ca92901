"""The downloadable data sets: mirrors, and for each file its exact size and checksums.

MD5      published by the distributors: torchvision's table for MNIST, Zalando's README for Fashion-MNIST.
SHA-256  not published by them. The values of the two Fashion-MNIST label files were computed for this
         project from files whose MD5 agrees; the other six are those on which many independent public
         projects agree.

MD5 alone detects accidental damage but not a deliberate forgery, so both must agree.
"""

from __future__ import annotations

from dataclasses import dataclass

from l0ref.data.folders import FILES


@dataclass(frozen=True)
class Resource:
    """One file to fetch: its name, its exact size in bytes, and checksums of the gzip file as it is served."""

    file: str
    size: int
    md5: str
    sha256: str


@dataclass(frozen=True)
class Source:
    """Base addresses to try in order (each ends with a slash), and the files found under each of them."""

    mirrors: tuple[str, ...]
    files: tuple[Resource, ...]


def _resources(*rows: tuple[int, str, str]) -> tuple[Resource, ...]:
    """Rows of (size, MD5, SHA-256) in the order of `FILES`."""
    return tuple(Resource(f"{file}.gz", *row) for file, row in zip(FILES, rows, strict=True))


SOURCES = {
    "mnist": Source(
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        files=_resources(
            (
                9_912_422,
                "f68b3c2dcbeaaa9fbdd348bbdeb94873",
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            ),
            (
                28_881,
                "d53e105ee54ea40749a09fcbcd1e9432",
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            ),
            (
                1_648_877,
                "9fb629c4189551a2d022fa330f9573f3",
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            ),
            (
                4_542,
                "ec29112dd5afa0611ce80d1b7f02629c",
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            ),
        ),
    ),
    "fashion-mnist": Source(
        mirrors=(
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
        files=_resources(
            (
                26_421_880,
                "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            ),
            (
                29_515,
                "25c81989df183df01b3e8a0aad5dffbe",
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            ),
            (
                4_422_102,
                "bef4ecab320f06d8554ea6380940ec79",
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            ),
            (
                5_148,
                "bb300cfdad3c16e7a12a480ee83cd310",
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            ),
        ),
    ),
}
