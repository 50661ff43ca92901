"""The part of docs/faults.md about gradients that were really wrong: what to learn from them, and the table.

counts    {"missed": {checker: names of cases}, "refused": {checker: names of cases whose truth is refused}}
"""

from __future__ import annotations

from typing import Any

from tests.history.case import CASES, Case
from tests.history.run import KINDS, cases, others, own

# kind: title, the case to tell of, how to look for it by hand
WAYS = {
    "ties": (
        "Ties and kinks",
        "max_of_tied_entries",
        "Repeat an entry of the input on purpose and move all copies together by h: their gradients must add up to the "
        "change of the value.",
    ),
    "zeros": (
        "Special points",
        "norm_at_zero",
        "Check at 0, at a row of zeros, at exponent 0: every quotient, logarithm and power in the backward pass needs "
        "an answer there.",
    ),
    "branches": (
        "A branch or a mask decided by the wrong quantity",
        "prelu_by_the_sign_of_its_output",
        "Take inputs on both sides of every threshold and parameters of both signs, and compare the sides apart.",
    ),
    "indices": (
        "Borders, windows, repeated indices",
        "maxpool_assigns",
        "Use sizes that do not divide, windows that overlap, an index twice; look at the first and last entries.",
    ),
    "shapes": (
        "Broadcasting, layout, rank",
        "layer_norm_of_rank_three",
        "Give every axis another size and one of them size 1, pass a transposed view, and add an axis.",
    ),
    "upstream": (
        "The cotangent from above",
        "huber_without_upstream",
        "Never check with a cotangent of ones. Double a random one: the gradient must double.",
    ),
    "factors": (
        "Signs, 2 and 1/2, means and sums",
        "svm_l2_factor",
        "Divide by the numeric gradient. One number everywhere is a sign, a 2, a batch size or a forgotten weight.",
    ),
    "formulas": (
        "The derivative of another function",
        "tanh_at_its_output",
        "Check each function alone, before it is part of a network, and at several points.",
    ),
    "terms": (
        "A term that is missing or superfluous",
        "layer_norm_subtracts_twice",
        "Subtract the numeric gradient. An error that is constant in a row, or proportional to x or to the cotangent, "
        "is a term.",
    ),
    "paths": (
        "A path cut, or taken twice",
        "recurrent_weight_once",
        "Use an input twice and add up what each use contributes. A gradient of exactly 0 is a cut.",
    ),
    "memory": (
        "What one call leaves for the next",
        "inner_nodes_keep_gradients",
        "Ask twice, and again after an evaluation elsewhere; compare inputs and values before and after.",
    ),
    "precision": (
        "Precision",
        "deviation_epsilon",
        "Take inputs with a small spread and very large ones, and compare eight digits, not three.",
    ),
}

# Letters of the reasons on the page, for the cases that another checker misses or whose truth it refuses.
WHY = {
    "max_of_tied_entries": "k",
    "sampling_on_the_border": "k",
    "deviation_epsilon": "s",
    "broadcast_row": "g",
    "gelu_of_two_kinds": "f",
    "gather_in_half_precision": "a",
    "normalisation_epsilon": "a",
    "sigmoid_cancels": "a",
    "silu_underflows": "a",
    "inner_nodes_keep_gradients": "e",
    "buffer_never_cleared": "e",
    "saved_activation_changed": "e",
}
SHOWN = {"torch": "PyTorch", "torch fast": "PyTorch, fast", "autograd": "autograd"}


def count() -> dict[str, Any]:
    """Run every checker on the truth and the fault of every case, each in its own form."""
    checks: dict[str, Any] = {
        "l0ref": lambda case, wrong: own(case, wrong=wrong)[0],
        "l0ref fast": lambda case, wrong: own(case, wrong=wrong, fast_mode=True)[0],
    }
    for name in SHOWN:
        checks[name] = lambda case, wrong, name=name: others(case, name, wrong=wrong)
    every = cases()
    return {
        "missed": {name: [c.name for c in every if accepts(c, True)] for name, accepts in checks.items()},
        "refused": {name: [c.name for c in every if not accepts(c, False)] for name, accepts in checks.items()},
    }


def page(counts: dict[str, Any]) -> str:
    """Return the opening of docs/faults.md."""
    by_name = {case.name: case for case in CASES}
    lines = [OPENING]
    for n, (title, example, by_hand) in enumerate(WAYS.values(), 1):
        case = by_name[example]
        lines.append(f"{n}. **{title}.** {case.note[0].upper()}{case.note[1:]} ({case.source}). *By hand:* {by_hand}")
    named = sum(bool(case.says) for case in CASES)
    lines += [TABLE.format(n=len(CASES), named=named, unnamed=len(CASES) - named), _totals(counts)]
    for module in KINDS:
        kind = module.__name__.rsplit(".", 1)[-1]
        lines += [f"### {WAYS[kind][0]}", "", _table([HEAD, *(_row(case, counts) for case in cases(kind))])]
    return "\n".join(lines)


HEAD = ["project and number", "what was wrong", "l0ref says", "judged", *SHOWN.values(), "why"]


def _row(case: Case, counts: dict[str, Any]) -> list[str]:
    verdicts = [_verdict(case.name, counts, checker) for checker in SHOWN]
    why = [f"({letter})" for letter in WHY.get(case.name, "")] if set(verdicts) != {"found"} else []
    return [case.source, case.note, case.says or "no name", case.because, *verdicts, " ".join(why)]


def _verdict(name: str, counts: dict[str, Any], checker: str) -> str:
    if name in counts["refused"][checker]:
        return "refuses the truth"
    return "**missed**" if name in counts["missed"][checker] else "found"


def _totals(counts: dict[str, Any]) -> str:
    n, rows = len(CASES), [["", "faults found", "true gradients accepted"]]
    for name, shown in {"l0ref": "l0ref", "l0ref fast": "l0ref, fast", **SHOWN}.items():
        refused, missed = set(counts["refused"][name]), set(counts["missed"][name])
        rows.append([shown, f"{n - len(refused | missed)} of {n}", f"{n - len(refused)} of {n}"])
    return _table(rows)


def _table(rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:], ""])


OPENING = """# Faults in gradients

## How gradients go wrong

Twelve ways, each with a gradient that a public project or course really shipped, and how to look for it without any
checker. Numbers are those of the issue or pull request on GitHub.
"""

TABLE = """
## Gradients that were really wrong

{n} faults were rebuilt from their reports, in code of our own and at small inputs: as pairs of plain callables, as
operations, and as networks with a penalty and masks. Each was given to the checker of l0ref for its form, and in a
second form; to `torch.autograd.gradcheck` and to autograd's `check_grads` as below. A fault counts as found if the
checker rejects it and accepts the true gradient. Reports were read in public trackers; what they leave open, such as
sizes, is ours, and [I] marks a fault that was inferred from the code of its repair.

A report of l0ref also names what a fault looks like. Each name was compared with what was really wrong, with the
reason in the table: {named} are named, {unnamed} have no name, none has a wrong one. A name says what the numbers show,
not which line is to blame.

(a), (e), (f) and (k) are the reasons given [below](#why-a-fault-is-missed). (g) PyTorch itself adds up a gradient that
has the shape of a broadcast. (s) The inputs differ by 1e-5, and the checkers step as far or by a tenth of it.
"""
