"""The fault corpus: mistakes of every known kind, planted in true gradients, to see whether a checker finds them.

inputs      small inputs for operations
points      where they are planted: every operation and surrogate, true value and derivative
plant       what a fault is, and when it counts as planted: what the gradient does must really differ
numbers     kinds: a wrong number in the right place
places      kinds: the right numbers in the wrong places
sums        kinds: a sum, a mean or a term of the chain rule that was forgotten
branches    kinds: masks, saturation, kinks and ties
windows     kinds: stride, padding, dilation and kernel of convolution and pooling
cotangents  kinds: what is done with the cotangent that comes in
state       kinds: memory that is written, kept or shared, and noise
limits      kinds that no check at one point can see
kinds       all of them, and the corpus: every kind in every place where it is a fault
own         l0ref's checker run on a planted fault
others      PyTorch's gradcheck and autograd's check_grads run on the same fault (extra `crosscheck`)
count       which checker finds which fault; kept in counts.json
table       docs/faults.md, made from the counts; its opening is that of `tests.history`

    python -m tests.faults          count again with all checkers; rewrite counts.json and docs/faults.md

A new operation or surrogate joins the corpus with its row in `l0ref.testing.samples`; then run this once.
"""
