"""One report as text: its tables, and what a reader must know to read them right."""

from __future__ import annotations

from l0ref.report.deployment import deployment_text
from l0ref.report.tables import Row, curve_table, layers_table, percent, stages_table


def full_text(report: Row) -> str:
    """Return all tables of one report."""
    data, seed = report["data"], report["seed"]
    title = f"{report['config']['model']} on {data['name']}, seed {seed}: trained on {data['train']:,} images, "
    title += f"validated on {data['validation']:,}, tested on {data['test']:,}, which nothing was chosen by"
    parts = [title, stages_table(report), "Layers of the fine-tuned network:", layers_table(report)]
    if "compact" in report:
        parts += ["The same network without its zeros:", deployment_text(report["compact"])]
    if any(report["curve"].values()):
        parts += ["Curve:", curve_table(report)]
    return "\n\n".join([*parts, notes(report)])


def notes(report: Row) -> str:
    """Return what a reader must know to read the table right."""
    swept = sum(report["swept"].values())
    return "\n".join(
        [
            f"{swept} dead units of the l0 network were swept. Biases are neither pruned nor counted. Every run had",
            "the same number of weights cut; the sweep then took more where more units died, so compare at the",
            f"printed compression. One image is {percent(1 / max(report['data']['test'], 1))} of the test set: "
            "differences of a few images are noise.",
            "Theoretical speed-up counts multiply-adds; measured is a forward pass of the masked network, whose",
            "arrays are still dense: a masked network does not run faster by itself. The compact one may.",
        ]
    )
