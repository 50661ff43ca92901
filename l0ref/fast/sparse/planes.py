"""Kernels that convolve images with a sparse kernel, built on those of `sparse.entries`.

A unit is one image, or as many as a vector has lanes. The pixels of a unit are laid out in planes, row after row, with
a border of zeros; a pixel is one number, or one for each image of the unit. Then the pixels under one weight, for all
windows, are as far apart as the windows, and a convolution is

    y[f, t]  =  b_f + sum_k values_k x[place_k + t]

with t running over the windows, row after row. With a stride each plane is split into one plane for each
remainder of the pixels under the stride, so that this holds for each of them.

    runs    rows of pixels: their starts in an image and in the planes, and their lengths in pixels, (3, R)
    sizes   of the images: numbers of one, numbers of a pixel, distance in pixels between neighbours of a plane; whether
            the planes equal the images, and whether they hold all their pixels; lanes
    grid    of vectors; see `grid`
    steps   numbers of a pixel; from one plane of y to the next; lanes
    tables  runs of x and of y; offsets of the rows of a block of x, of a block of y, and of the lanes of either
    layout  sizes of x, sizes of y, four sizes of memory, grid and steps, one after another: see `sections`

Why it is fast: the data of one unit fit the second cache, so the images are read once and the results written
once; the rest is as in `entries`, with up to eight vectors of a row of windows for each weight.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from l0ref.fast.machine.lanes import load, pick, store
from l0ref.fast.machine.policy import kernel, parallel_kernel
from l0ref.fast.sparse.batch import block_to_rows, rows_to_block
from l0ref.fast.sparse.entries import write_totals
from l0ref.fast.sparse.grid import contract_row, sample_row


@kernel
def sections(layout):
    """The parts of a layout, which is flat because a loop over threads accepts no tuple of tuples."""
    return layout[:6], layout[6:12], layout[12:16], layout[16:22], layout[22:]


@kernel
def frame(images, planes, runs, sizes):
    """Copy rows of pixels into planes."""
    _, unit, stride, _, _, lanes = sizes
    for r in range(runs.shape[1]):
        source, target, length = runs[0, r], runs[1, r], runs[2, r] * unit
        if length >= lanes and (unit > 1 or stride == 1):
            for j in range(0, length, lanes):
                at = min(j, length - lanes)
                store(planes, (target + at,), (0,), load(images, (source + at * stride,)))
        else:
            for i in range(np.uint64(length)):
                planes[np.uint64(target) + i] = images[np.uint64(source) + i * np.uint64(stride)]


@kernel
def unframe(planes, images, runs, sizes):
    """The inverse of `frame`; pixels that are in no plane become 0."""
    _, unit, stride, _, whole, lanes = sizes
    if not whole:
        images[:] = 0
    for r in range(runs.shape[1]):
        target, source, length = runs[0, r], runs[1, r], runs[2, r] * unit
        if length >= lanes and (unit > 1 or stride == 1):
            for j in range(0, length, lanes):
                at = min(j, length - lanes)
                store(images, (target + at * stride,), (0,), load(planes, (source + at,)))
        else:
            for i in range(np.uint64(length)):
                images[np.uint64(target) + i * np.uint64(stride)] = planes[np.uint64(source) + i]


@kernel
def lay(images, planes, spare, runs, sizes, row_steps, lane_steps, n):
    """Copy unit n into planes. spare: room for a block and for its rows."""
    (block, tail), (size, unit, _, are_planes, _, _) = spare, sizes
    if unit == 1:
        frame(images[n * size : (n + 1) * size], planes, runs, sizes)
    elif are_planes:
        rows_to_block(images, planes, tail, size, row_steps, lane_steps, n)
    else:
        rows_to_block(images, block, tail, size, row_steps, lane_steps, n)
        frame(block, planes, runs, sizes)


@kernel
def bring(planes, images, spare, runs, sizes, row_steps, lane_steps, n):
    """The inverse of `lay`."""
    (block, tail), (size, unit, _, are_planes, _, _) = spare, sizes
    if unit == 1:
        unframe(planes, images[n * size : (n + 1) * size], runs, sizes)
    elif are_planes:
        block_to_rows(planes, images, tail, size, row_steps, lane_steps, n)
    else:
        unframe(planes, block[: size * unit], runs, sizes)
        block_to_rows(block, images, tail, size, row_steps, lane_steps, n)


@kernel
def contract_planes(x, w, b, floor, y, grid, steps):
    """Fill the planes y of one unit."""
    rows, _, x_row, y_row, _, _ = grid
    for r in range(rows):
        contract_row(x, w, b, floor, y, grid, steps, r * x_row, r * y_row)


@kernel
def convolve_part(x, w, bias, y, room, tables, numbers, layout, first, last):
    """Units first ... last - 1 of `convolve`."""
    x_sizes, y_sizes, (end_x, end_y, end_block, end_tail), grid, steps = sections(layout)
    x_runs, y_runs, x_table, y_table, lane_table = tables
    x_rows, y_rows, lane_steps = pick(x_table, numbers), pick(y_table, numbers), pick(lane_table, numbers)
    (b, floor), planes, out = bias, room[:end_x], room[end_x:end_y]
    spare = room[end_y:end_block], room[end_block:end_tail]
    planes[:] = 0
    for n in range(first, last):
        lay(x, planes, spare, x_runs, x_sizes, x_rows, lane_steps, n)
        contract_planes(planes, w, b, floor, out, grid, steps)
        bring(out, y, spare, y_runs, y_sizes, y_rows, lane_steps, n)


@parallel_kernel
def convolve(x, w, bias, y, room, tables, numbers, layout, units, threads):
    """Fill the images y.

    w        values, indptr, places of the pixels under the weights
    bias     b, one number for each plane of y; floor, array of one number: 0 for a ReLU, -inf for none
    room     for each thread; four sizes of `layout` are the ends of its parts: planes of x, of y, a block, its rows
    numbers  0, 1, 2, ..., one for each lane
    """
    size = room.size // threads
    for n in prange(threads):
        mine, first, last = room[n * size : (n + 1) * size], n * units // threads, (n + 1) * units // threads
        convolve_part(x, w, bias, y, mine, tables, numbers, layout, first, last)


@kernel
def sample_planes(x, d, w, sums, grid, steps, row):
    """Add one unit to the sums of some entries, the first of which lies in `row`. w: see `sample_rows`."""
    rows, _, x_row, d_row, _, _ = grid
    for r in range(rows):
        sample_row(x, d, w, sums, grid, steps, r * x_row, r * d_row, row)


@kernel
def lay_both(x, d, room, tables, numbers, layout, thread, begin, first, last):
    """Copy units first ... last - 1 of x and d into planes; the planes begin with unit `begin`."""
    x_sizes, d_sizes, (x_size, d_size, block, own_size), _, _ = sections(layout)
    x_runs, d_runs, x_table, d_table, lane_table = tables
    x_rows, d_rows, lane_steps = pick(x_table, numbers), pick(d_table, numbers), pick(lane_table, numbers)
    x_room, d_room, spare_room, _ = room
    own = spare_room[thread * own_size : (thread + 1) * own_size]
    spare = own[:block], own[block:]
    for n in range(first, last):
        x_planes = x_room[(n - begin) * x_size : (n - begin + 1) * x_size]
        d_planes = d_room[(n - begin) * d_size : (n - begin + 1) * d_size]
        lay(x, x_planes, spare, x_runs, x_sizes, x_rows, lane_steps, n)
        lay(d, d_planes, spare, d_runs, d_sizes, d_rows, lane_steps, n)


@kernel
def sample_part(room, w, sums, layout, number, first, last):
    """Add `number` units to the sums of the entries first ... last - 1."""
    (indptr, places), (_, _, (x_size, d_size, _, _), grid, steps), row = w, sections(layout), 0
    x_room, d_room, _, _ = room
    while row < indptr.size - 2 and indptr[row + 1] <= first:
        row += 1
    for n in range(number):
        x, d = x_room[n * x_size : (n + 1) * x_size], d_room[n * d_size : (n + 1) * d_size]
        sample_planes(x, d, (indptr, places, first, last), sums, grid, steps, row)


@parallel_kernel
def sample(x, d, w, g, room, tables, numbers, layout, units, threads):
    """Fill g from images x and d.

    w      indptr, places
    room   for the planes of a few units of x, for those of d, for a block and its rows of each thread, and for
           (nnz + (1 + lanes) threads) lanes numbers; the first three have the sizes of `layout` for a unit, or thread
    units  their number, and the number laid out at a time
    """
    (x_planes, d_planes, _, sums), (count, together), (_, _, _, _, lane_table) = room, units, tables
    lanes = len(numbers)
    vectors = (g.size + lanes - 1) // lanes
    x_planes[:] = 0
    d_planes[:] = 0
    sums[:] = 0
    for begin in range(0, count, together):
        number = min(together, count - begin)
        for n in prange(threads):
            start, end = begin + n * number // threads, begin + (n + 1) * number // threads
            lay_both(x, d, room, tables, numbers, layout, np.int64(n), begin, start, end)
        for n in prange(threads):
            first, last = n * vectors // threads * lanes, min((n + 1) * vectors // threads * lanes, g.size)
            sample_part(room, w, sums[(first + n * (1 + lanes)) * lanes :], layout, number, first, last)
    for n in prange(threads):
        first, last = n * vectors // threads * lanes, min((n + 1) * vectors // threads * lanes, g.size)
        write_totals(sums[(first + n * (1 + lanes)) * lanes :], g, pick(lane_table, numbers), first, last)
