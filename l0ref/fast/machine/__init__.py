"""Shared by all kernels: how they are compiled and on how many threads, vectors, memory, tables of offsets."""
