"""Benchmarks of `l0ref bench`, and the means by which they stay fair to the other libraries.

    work            plan, suite, work, contender: the values that all other modules use
    plan            a checked plan from the flags of the command line
    suites/         the measurements, one file per subject: our contenders, those of other libraries, the answers
    training*       the training task that several suites share, and its contenders in PyTorch, autograd and MyGrad
    peers           the other libraries: which are installed, which take part
    agreement       a check, before anything is timed, that all contenders compute the same
    harness         every contender runs once per round, each time after a warm-up
    statistics      medians, interquartile ranges, ratios
    threads         one number of threads for every library, threads pinned to processors
    traffic         kernels that measure the bandwidth of the memory
    environment     processor, BLAS, threads, versions
    table           rows for JSON, tables for people
    summary         the goals of speed, and the verdict on each
    worker          the process that measures

Three effects that would have favoured us were measured and then excluded: a BLAS thread keeps spinning for 26 ms after
a product and slows the contender that runs next (6.5 ms instead of 2.3 for PyTorch's step); both threads of a pool may
run on one processor (8 ms instead of 43 microseconds); the speed of a shared host drifts by a factor of 1.8 between
runs. Hence the alternation, the warm-ups and the pinned threads, and hence ratios within one run only.
"""
