"""Benchmarks that are fair to the others: what `l0ref bench` measures, and how.

    plan         which suites, how many rounds and threads, which peers
    work         a piece of work and the contenders that do it
    agreement    before anything is timed: do all contenders compute the same thing?
    harness      contenders take turns in every round, each after a warm-up
    statistics   medians, interquartile ranges, ratios
    threads      one number of threads for every library, threads pinned to processors
    environment  processor, BLAS, threads, versions
    table        rows and text
    worker       the process in which all of this happens
    suites/      one file per suite
    peers/       other libraries, and the limits of the machine

What would have flattered us, measured before it was removed: a BLAS thread that spins for 26 ms after a product and
robs the contender that runs next (6.5 ms instead of 2.3 for PyTorch's step); both threads of a pool on one processor
(8 ms instead of 43 microseconds); a host whose speed drifts by a factor 1.8 between runs. Hence turns, warm-ups and
pinned threads, and hence ratios within one run only.
"""
