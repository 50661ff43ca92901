"""What every kernel stands on: how kernels are compiled and on how many threads, vectors, memory, tables of offsets."""
