"""One report as text: its tables, and the notes needed to read them correctly."""

from __future__ import annotations

import textwrap

from l0ref.report.schema import Row, declared, main_name, mapping, quality_of, runs_of, shown_names
from l0ref.report.tables import SCREEN, curve_table, layers_table, speed_table, stages_table
from l0ref.report.usage import deployment_text
from l0ref.tables import percent, times

SAME = 1.01  # compressions within this factor count as equal
BEYOND = 0.01  # share of the weights that a sweep may remove without a word

MASKED = (
    "Pruned and fine-tuned networks are masked here: their arrays are dense and every zero is multiplied, so pruning "
    "by itself makes none of them faster. If a masked network is faster, the cause lies in its values or in the "
    "machine, for example subnormal numbers in the dense network."
)
SPEED_NOTES = (
    "theory: multiply-adds of the dense network / those with non-zero weights. measured: seconds of the dense "
    "network / seconds of this one, all networks timed alternately; range: 10th to 90th percentile over the "
    f"rounds; a range that holds 1 is no gain. {MASKED}"
)


def full_text(report: Row) -> str:
    """Return all tables of one report; parts that the report does not have are left out."""
    runs_of(report)  # refuses a value that is not a report
    parts = [title(report), feed(report), beyond(report), compressions(report), stages_table(report)]
    parts += ["Speed and bytes:", speed_table(report), filled(SPEED_NOTES)]
    if layers := layers_table(report):
        parts += [f"Layers of the final network of {_main_shown(report)}:", layers]
    if compact := mapping(report, "compact"):
        parts += ["The same network without its dead units, and without its zeros:", deployment_text(compact)]
    if any(mapping(report, "curve").values()):
        parts += ["Curve:", curve_table(report)]
    return "\n\n".join(filter(None, [*parts, notes(report)]))


def title(report: Row) -> str:
    """Return model, data set, seed and the sizes of its parts, if the report names them."""
    data, config = mapping(report, "data"), mapping(report, "config")
    text = f"{config.get('model', 'a network')} on {data.get('name', 'unnamed data')}"
    text += f" ({told})" if (told := declared(config)) else ""
    text += f", seed {report['seed']}" if "seed" in report else ""
    uses = {"train": "trained on", "validation": "validated on", "test": "tested on"}
    sizes = [f"{use} {data[part]:,} samples" for part, use in uses.items() if data.get(part)]
    text += ": " + ", ".join(sizes) if sizes else ""
    return filled(text + ("; the test set was read once, after every choice was made" if data.get("test") else ""))


def feed(report: Row) -> str:
    """Return the augmentation and the teacher of training, with the teacher's errors; "" if it had neither."""
    fed, parts = mapping(report, "fed"), []
    if augmentation := mapping(fed, "augmentation"):
        sizes = ", ".join(f"{key} {value:g}" for key, value in augmentation.items() if key != "name")
        parts.append(f"Every training was augmented by {augmentation.get('name')} ({sizes}).")
    if teacher := mapping(fed, "teacher"):
        errors = [
            f"{name} error {percent(1 - a)}"
            for name, a in (("validation", teacher.get("val_acc1")), ("test", teacher.get("test_acc1")))
            if a is not None
        ]
        parts.append(
            f"Every training imitated the teacher {teacher.get('file')} (SHA-256 {str(teacher.get('sha256'))[:16]}..., "
            f"{', '.join(errors)}) at temperature {teacher.get('temperature')} with weight {teacher.get('weight')}."
        )
    return filled(" ".join([*parts, "Not comparable with networks trained otherwise."])) if parts else ""


def beyond(report: Row) -> str:
    """Return how much more than asked the sweep of dead units removed, if it is over one per cent of the weights."""
    cuts, size, amount = report.get("cuts"), report["stages"][-1].get("size"), mapping(report, "config").get("amount")
    if not cuts or not size:
        return ""
    more = sum(cut["kept"] - cut["kept_after_sweep"] for cut in cuts)
    reached = 1 - cuts[-1]["kept_after_sweep"] / size
    asked = 1 - cuts[-1]["kept"] / size if amount is None else amount / (1 if isinstance(amount, float) else size)
    if not more or reached - asked <= BEYOND:
        return ""
    told = "The cut removed" if amount is None else "Asked for"
    told = f"{told} {percent(asked)} of the weights; the sweep of dead units removed {more:,} more"
    return filled(f"{told}: {percent(reached)}.")


def compressions(report: Row) -> str:
    """Return a warning if the final networks of the runs differ in compression; "" if they do not."""
    names = shown_names(report)
    final = {names[key]: run["stages"][-1].get("compression_ratio") for key, run in runs_of(report).items()}
    known = {name: float(ratio) for name, ratio in final.items() if ratio is not None}
    if len(known) < 2 or max(known.values()) <= SAME * min(known.values()):
        return ""
    least, most = (pick(known, key=lambda name: known[name]) for pick in (min, max))
    what = "accuracies" if quality_of(report["stages"]) == "acc1" else "R²"
    return filled(
        f"Final compression differs between the runs, from {times(known[least])} ({least}) to {times(known[most])} "
        f"({most}): the {what} below are not those of equally small networks."
    )


def notes(report: Row) -> str:
    """Return the remaining notes on the tables."""
    swept, test = mapping(report, "swept"), mapping(report, "data").get("test")
    parts = [f"Dead units of the network of {_main_shown(report)} swept: {sum(swept.values())}."]
    parts += ["Biases are neither pruned nor counted. Every run had the same number of weights cut; the sweep then"]
    parts += ["removed more where more units had died, so compare at the printed compression."]
    if test and quality_of(report["stages"]) == "acc1":
        parts += [f"One sample is {percent(1 / test)} of the test set: differences of a few samples are noise."]
    parts += ["Seconds are wall-clock times of training; the first run also imports libraries and loads or compiles"]
    parts += ["kernels, which takes some seconds."]
    return filled(" ".join(parts))


def _main_shown(report: Row) -> str:
    return shown_names(report)[main_name(report)]


def filled(text: str) -> str:
    """Return a paragraph wrapped at the width of a terminal."""
    return textwrap.fill(text, SCREEN)
