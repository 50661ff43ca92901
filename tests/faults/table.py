"""docs/faults.md, made from the counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.faults.kinds import FAMILIES, of_family
from tests.faults.plant import Kind
from tests.history import page as history

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"
SHOWN = {
    "l0ref": "l0ref",
    "l0ref fast": "l0ref, fast",
    "torch": "PyTorch",
    "torch fast": "PyTorch, fast",
    "autograd": "autograd",
}

# Why a fault is missed. Shown for the kinds that any checker misses, somewhere.
REASONS = {
    "a": "**Tolerance.** PyTorch accepts errors of 1e-3 of an entry plus 1e-5, autograd of 1e-6, absolute or relative. "
    "l0ref accepts 1e-8 of the entry plus the estimated error of its differences, and nothing absolute.",
    "b": "**Cotangents.** PyTorch asks with one-hot cotangents, in fast mode with one of positive numbers and norm 1, "
    "so what is done to negative or large ones does not show; autograd draws one. l0ref draws signs and sizes, and "
    "asks again with -1024 times the cotangent.",
    "c": "**One point.** The gradient is asked for at one point, and the value at points within 1e-6 of it. l0ref "
    "looks at a second point, and evaluates the function elsewhere between its forward and its backward pass.",
    "d": "**Memory.** Inputs, cotangents and results are not compared with what they were before; NumPy code writes "
    "past the version counters of PyTorch. l0ref compares them.",
    "e": "**Once.** autograd asks for the gradient once, l0ref and PyTorch ask again.",
    "f": "**One number.** Fast mode and autograd compare one number along random directions, PyTorch's of positive "
    "numbers, in which errors of several entries cancel or drown. l0ref takes four, of both signs and many sizes.",
    "k": "**Kinks.** PyTorch and autograd compare with the mean of both slopes and so refuse the true gradient of a "
    "ReLU at 0, a bound of `clip` or a tie. Who refuses both finds nothing.",
}
WHY = {
    "unsigned": "b",
    "off_by_1e_4": "a",
    "off_by_1e_6": "a",
    "one_entry": "f",
    "float32": "a",
    "clipped": "b",
    "sign_of_small": "a",
    "backwards": "f",
    "index_off_by_one": "f",
    "two_exchanged": "f",
    "last_missing": "f",
    "first_twice": "af",
    "wrong_point": "a",
    "option_forgotten": "a",
    "tie_to_last": "k",
    "tie_to_all": "k",
    "other_side": "k",
    "cotangent_sign": "b",
    "cotangent_clipped": "b",
    "cotangent_positive": "b",
    "cotangent_float16": "ab",
    "stale_first_call": "c",
    "saved_overwritten": "c",
    "result_shared": "d",
    "never_zeroed": "e",
    "cotangent_written": "d",
    "input_written_backward": "d",
    "input_written_forward": "d",
    "noisy_gradient": "ae",
}
TITLES = {
    "numbers": "A wrong number in the right place",
    "places": "The right numbers in the wrong places",
    "sums": "Sums, means and terms",
    "branches": "Masks, saturation, kinks and ties",
    "windows": "Convolution, pooling and padding",
    "cotangents": "The incoming cotangent",
    "state": "Memory and noise",
}


def page(counts: dict[str, Any]) -> str:
    """Return docs/faults.md as text."""
    parts = [history.page(counts["history"]), _opening(counts), _totals(counts), _reasons()]
    parts += [_family(family, counts["kinds"]) for family in FAMILIES if family != "limits"]
    return "\n".join([*parts, _limits(counts), CLOSING])


def found(kind: dict[str, Any], checker: str) -> int:
    """How many faults of a kind a checker found."""
    missed = kind["missed"].get(checker, [])
    return 0 if missed == "all" else int(kind["planted"]) - len(missed)


def _opening(counts: dict[str, Any]) -> str:
    kinds, size, v = counts["kinds"], counts["targets"], counts["versions"]
    planted = sum(kind["planted"] for kind in kinds.values())
    return OPENING.format(planted=f"{planted:,}", kinds=len(kinds), **size, **v)


def _totals(counts: dict[str, Any]) -> str:
    kinds, points = counts["kinds"], counts["points"]
    planted = sum(kind["planted"] for kind in kinds.values())
    rows = [["", "faults found", "kinds found everywhere", "true gradients accepted", "at kinks"]]
    for checker, shown in SHOWN.items():
        hits = sum(found(kind, checker) for kind in kinds.values())
        whole = sum(checker not in kind["missed"] for kind in kinds.values())
        refused = counts["truth"][checker]
        at_kinks = sum(name.endswith("at a kink") for name in refused)
        plain, kinked = points["smooth"] + points["square"], points["kink"]
        accepted = [f"{plain - len(refused) + at_kinks} of {plain}", f"{kinked - at_kinks} of {kinked}"]
        rows.append([shown, f"{hits:,} of {planted:,}", f"{whole} of {len(kinds)}", *accepted])
    return _table(rows)


def _reasons() -> str:
    lines = [f"- ({letter}) {text}" for letter, text in REASONS.items()]
    return "\n".join(["### Why a fault is missed", "", *lines, "", "### Kind by kind", "", LEGEND, ""])


def _family(family: str, kinds: dict[str, Any]) -> str:
    rows = [["what is wrong", "planted", *SHOWN.values(), "why"]]
    rows += [_row(kind, kinds[kind.name], WHY.get(kind.name, "")) for kind in of_family(family)]
    return f"#### {TITLES[family]}\n\n{_table(rows)}"


def _row(kind: Kind, counted: dict[str, Any], why: str) -> list[str]:
    hits = [found(counted, checker) for checker in SHOWN]
    cells = ["all" if n == counted["planted"] else str(n) if n else "**none**" for n in hits]
    letters = [f"({letter})" for letter in why] if counted["missed"] else []
    return [kind.says.replace("|", "\\|"), str(counted["planted"]), *cells, " ".join(letters)]


def _limits(counts: dict[str, Any]) -> str:
    kinks = sum(counts["kinds"][kind.name]["planted"] for kind in of_family("branches") if kind.at == "kink")
    rows = [["what is wrong", "planted", *SHOWN.values(), "why"]]
    rows += [_row(kind, counts["unseen"][kind.name], "") for kind in of_family("limits")]
    table = _table([row[:-1] for row in rows])
    return LIMITS.format(table=table, kinks=kinks, unguided=counts["unguided"])


def _table(rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:], ""])


OPENING = """## Planted faults

Does a gradient checker find what is wrong? {planted} faults of {kinds} kinds were planted in the true gradients of all
{operations} operations and {surrogates} surrogates of l0ref, in each of their {inputs} inputs where the kind makes a
difference, and given to three checkers:

- `l0ref.testing`: `gradcheck` for operations, `check_gradient` for surrogates, full and fast;
- `torch.autograd.gradcheck` of PyTorch {torch}, with `fast_mode=False` and `True`;
- `autograd.test_util.check_grads` of autograd {autograd}, `modes=["rev"], order=1`, over all arguments at once.

All three got the same NumPy code, wrapped as an operation, a `torch.autograd.Function` and a primitive of autograd, at
the same float64 inputs, and ran with their default tolerances. A fault counts as planted where it changes a number by
more than 2e-8 of itself, or an array that was to be read only, or what a later call returns. It counts as found if the
checker rejects it and accepts the true gradient at the same point. l0ref's message must also name the input the fault
was planted in, and no other.

This page is written by `python -m tests.faults` (NumPy {numpy}), which runs all of it. Tests hold the page to the
counts, and l0ref to finding every fault.
"""

LEGEND = """Planted: in how many inputs of operations and surrogates. Under each checker: how many of these it found.
(a) to (k): the reasons above why it, or another, missed some."""

LIMITS = """### What l0ref does not see

{table}
Fast mode compares sums over all entries. An error below 1e-9 of the size of the whole gradient passes, even if it is
all of a small entry; full mode compares that entry by itself.

At a kink of a function of yours no documented value is known. There `gradcheck` accepts 0 between opposite slopes and
otherwise anything between the two, so of the {kinks} faults at kinks it finds {unguided} by itself. The rest are found
by `l0ref gradcheck ops`, which knows what each operation should return. `check_gradient` gets value and gradient as two
callables and cannot look at what a forward pass saved for its backward pass.

The planted faults were thought of by the people who wrote the checker; those that were really wrong, above, were not.
"""

CLOSING = """### What both corpora changed here

On their first run l0ref's checker missed faults too, and was corrected:

- fast mode accepted an infinite entry, and two entries exchanged in one case of twelve, because its directions moved
  all entries by the same amount;
- a backward pass could write into its inputs and its cotangent unseen;
- values overwritten between forward and backward pass were not noticed, nor was memory handed out twice by a linear
  function;
- a gradient that dropped the negative part of its cotangent passed where all random signs happened to be positive;
- the message about stale values did not say in which input, and where one input had many wrong entries the message
  showed none of the other's;
- tied entries that each got the whole gradient passed, because each was tested alone; so did a gradient of zero where
  every entry stood on a kink;
- a true gradient was refused at a stationary point, beside a flat array, at a vertical slope beside a smooth term, and
  where one entry was far smaller than the others of its array.
"""
