"""Gradients that were really wrong: faults that public projects and courses shipped, rebuilt from their reports.

case        what a case is, in three forms: a pair, an operation, a network with a penalty and masks
run         every checker on a case: l0ref's in both modes and both forms, PyTorch's and autograd's
ties        every one of several equal entries, and values at kinks
zeros       0 / 0 and log 0 at points where the function is harmless
branches    a branch or a mask decided by the wrong quantity
indices     borders, windows, repeated indices
shapes      broadcasting, layout, rank, batches of one
upstream    what is done with the cotangent
factors     signs, 2 and 1/2, means and sums
formulas    the derivative of another function, or at another point
terms       a term of the chain rule, or of the penalty, that is missing or superfluous
paths       a path through the graph that is cut, or taken twice
memory      what one call leaves behind for the next
precision   epsilons in the wrong place, cancellation, half precision
page        the part of docs/faults.md about them

A case is written from the description of the fault; the inputs are ours and no code or sentence is copied. `source`
is the project and the number of the issue or pull request on GitHub.
"""
