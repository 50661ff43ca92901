"""The layout of a report, and access to its parts; every writer (text, JSON, figures) uses this module.

    schema_version   of this layout
    seed, config     of the job
    data             name, checksum, and the sizes of the training, validation and test sets; 0 test samples where
                     a run of a sweep has not read them
    fed              if training had them: "augmentation", its name and sizes, and "teacher": file, sha256,
                     temperature, weight, val_acc1, test_acc1
    environment      versions, machine, libraries and threads
    main             name of the main run; "l0" where it is absent
    stages           of the main run, one row each for dense, pruned and finetuned: the metrics of `l0ref.metrics`;
                     val_loss, val_acc1, test_loss, test_acc1, of a regression also val_r2, test_r2 and test_rmse;
                     seconds the stage took; latency_seconds of a forward pass; measured_speedup over the first stage
                     of the run, with measured_speedup_low and _high, see `l0ref.report.speed`; and `layers`, one row
                     per weight array
    cuts, swept      the weights each cut kept, and the dead units found
    history          one row per epoch, as in history.csv
    controls         by name, the same keys from `stages` to `history`
    curve            by run, a list of {compression_asked, pruned: {...}, finetuned: {...}}
    untuned_curves   by run, pairs [compression ratio, validation accuracy] of its dense network, pruned and not tuned
    compact          the main network in its three forms, masked, shrunk and compact: bytes, multiply-adds, seconds,
                     form of each layer, see `l0ref.report.usage`; absent where no compact network was made

All values are those of JSON, so a report is the same value before it is written and after it is read back. Only
`stages` is required; a writer leaves out the parts that a report does not have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from l0ref.errors import ArgumentError
from l0ref.experiment import MAIN
from l0ref.experiment.controls import penalty_name

SCHEMA_VERSION = 1
Row = Mapping[str, Any]


def main_of(names: Iterable[str]) -> str:
    """Return the name of the main run: "l0" if it is among the names, the first name otherwise."""
    found = list(names)
    if not found:
        raise ArgumentError("experiment has no runs; give it at least one Compressed in runs={name: compressed}")
    return MAIN if MAIN in found else found[0]


def quality_of(rows: Iterable[Row]) -> str:
    """Return the suffix of the quality of a network: "r2" if the rows are of a regression, else "acc1"."""
    return "r2" if any("val_r2" in row for row in rows) else "acc1"


def runs_of(report: Row) -> dict[str, Row]:
    """Return the main run and the controls of a report, by name; refuse a report without stages."""
    if not isinstance(report, Mapping):
        raise ArgumentError(
            f"report is a {type(report).__name__}; pass the dictionary that summarize returns or report.json holds"
        )
    runs = {main_name(report): report, **mapping(report, "controls")}
    for name, run in runs.items():
        stages = run.get("stages") if isinstance(run, Mapping) else None
        if not isinstance(stages, list | tuple) or not stages or not all(_named(row) for row in stages):
            raise ArgumentError(
                f"report lacks the stages of the run {name!r}; 'stages' must be a list with one row per stage, "
                "each with its 'name'"
            )
    return runs


def main_name(report: Row) -> str:
    """Return the name of the main run of a report."""
    return str(report.get("main", MAIN))


def shown_names(report: Row) -> dict[str, str]:
    """Return {key: name in tables and figures} of the runs of a report or an aggregate.

    The main run has the key "l0" with any penalty and is named after the penalty of its configuration, with "main: " in
    front if a control has that key. Controls, runs named by the caller and runs without configuration have their keys.
    """
    config, main = mapping(report, "config"), main_name(report)
    keys = report["stages"] if isinstance(report.get("stages"), Mapping) else runs_of(report)
    names = {key: str(key) for key in keys}
    if main == MAIN and main in names and config.get("alpha") is not None:
        own = penalty_name(str(config.get("surrogate", "laplace")), alpha=config["alpha"], l2=config.get("l2") or 0)
        names[main] = f"main: {own}" if own in set(names) - {main} else own
    return names


def mapping(report: Row, key: str) -> Row:
    """Return the part `key` of a report, an empty mapping where it is absent or null."""
    found = report.get(key) or {}
    if not isinstance(found, Mapping):
        raise ArgumentError(f"report has {key!r} of type {type(found).__name__}; it must be a dictionary")
    return found


def declared(config: Row) -> str:
    """Return "augmented", "distilled", both or "": the label of every number of a job with these settings."""
    words = {"augment": "augmented", "teacher": "distilled"}
    return ", ".join(word for key, word in words.items() if config.get(key))


def _named(row: Any) -> bool:
    return isinstance(row, Mapping) and "name" in row
