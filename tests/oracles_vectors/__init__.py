"""Writes the conformance vectors: inputs and the results they must have, from 50 digits or exact rationals.

Nothing here is imported from the package under test; the house rule for files named `oracles...` sees to it.

    python -m tests.oracles_vectors          rewrite l0ref/vectors/v1
    python -m tests.oracles_vectors DIR      write into DIR instead

number      arithmetic at 50 digits that also bounds what float64 arithmetic would lose
form        the JSON form of numbers, arrays and sets; draws of inputs
formulas    the surrogates: value and two derivatives
surrogates  the same with error bounds, their minimisers and dead zones
sets_...    what is asked, set by set, in the order of `writer.SETS`
writer      all sets and the index, as bytes

Running it twice, on any machine, gives the same bytes: no dates, sorted keys, fixed order, fixed draws.
"""
