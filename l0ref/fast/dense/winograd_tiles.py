"""Kernels of `dense.winograd`: tiles of pixels to frequencies, products of these, and tiles of outputs back.

    tiles_in    v = B^T d B          of a tile d of 4 x 4 pixels, for each channel
    products    m_xi = u_xi v_xi     16 matrix products, (filters, channels) times (channels, tiles)
    tiles_out   y = A^T m A + b      2 x 2 outputs, for each filter
    slopes_in   d = A y_bar A^T      of a tile of 2 x 2 cotangents, for each filter

Activations are in blocks as in `dense.images`, and each number is a vector: as many samples as it has lanes. Frequency
xi = 4 j + i is entry (i, j) of a tile; v and m hold frequencies by channels or filters by tiles.

Why it is fast: COLUMNS tiles at a time go through all three steps of a convolution, so that v and m stay in the second
cache; their transforms take one or two additions per entry. For the cotangent of k more tiles are taken at a time, so
that sums over lanes are rare.
"""

from __future__ import annotations

from numba import prange

from l0ref.fast.machine.lanes import COLUMNS, ROWS, at_least, filled, load, minus, plus, shift, store
from l0ref.fast.machine.policy import kernel, parallel_kernel
from l0ref.fast.products.contraction import ACROSS, correlate_run, places_of, tile


@kernel
def stretch(a, n, parts):
    """Part n of an array that is cut into `parts` equal parts."""
    return a[n * a.size // parts : (n + 1) * a.size // parts]


@kernel
def b_times(a, b, c, d):
    """B^T times four rows."""
    return minus(a, c), plus(b, c), minus(c, b), minus(d, b)


@kernel
def a_times(a, b, c, d):
    """A^T times four rows."""
    return plus(plus(a, b), c), plus(minus(b, c), d)


@kernel
def a_of(a, b):
    """A times two rows."""
    return a, plus(a, b), minus(a, b), b


@kernel
def column(rows, j):
    """Entry j of four rows."""
    first, second, third, last = rows
    return first[j], second[j], third[j], last[j]


@kernel
def put(v, tile_at, step, columns):
    """The 16 entries of a tile, column by column, `step` apart."""
    places = (0, step, 2 * step, 3 * step)
    for j in range(4):
        store(v, shift(places, tile_at + 4 * j * step), (0,), columns[j])


@kernel
def tiles_in(x, v, at, image, tiles, first):
    """Fill tiles first ... first + COLUMNS - 1 of v (16, channels, tiles) from those that begin at places `at` of x.

    image  channels; numbers from one channel to the next, from one row of pixels to the next, of a vector
    """
    channels, plane, line, lanes = image[0], image[1], image[2], image[3]
    pixels = (0, lanes, 2 * lanes, 3 * lanes)
    for c in range(channels):
        for p in range(COLUMNS):
            top = shift(pixels, at[p] + c * plane)
            second, third, last = shift(top, line), shift(top, 2 * line), shift(top, 3 * line)
            rows = b_times(load(x, top), load(x, second), load(x, third), load(x, last))
            columns = b_times(column(rows, 0), column(rows, 1), column(rows, 2), column(rows, 3))
            put(v, (c * tiles + first + p) * lanes, channels * tiles * lanes, columns)


@kernel
def slopes_in(y, d, at, image, tiles, first):
    """Fill COLUMNS tiles of d (16, filters, tiles) from the cotangents of outputs; arguments as in `tiles_in`."""
    filters, plane, line, lanes = image[0], image[1], image[2], image[3]
    for f in range(filters):
        for p in range(COLUMNS):
            top = shift((0, lanes), at[p] + f * plane)
            rows = a_of(load(y, top), load(y, shift(top, line)))
            put(d, (f * tiles + first + p) * lanes, filters * tiles * lanes, a_of(column(rows, 0), column(rows, 1)))


@kernel
def tiles_out(m, b, floor, y, to, image):
    """COLUMNS tiles of outputs, at least floor, which begin at the places `to` of y, from m (16, filters, COLUMNS)."""
    filters, plane, line, lanes = image[0], image[1], image[2], image[3]
    step = filters * COLUMNS * lanes
    places = (0, step, 2 * step, 3 * step)
    for f in range(filters):
        bias = filled(b, (f,), (0, 0))
        for p in range(COLUMNS):
            first = shift(places, (f * COLUMNS + p) * lanes)
            second, third, last = shift(first, 4 * step), shift(first, 8 * step), shift(first, 12 * step)
            left, right = a_times(load(m, first), load(m, second), load(m, third), load(m, last))  # columns of outputs
            (l0, l1, l2, l3), (r0, r1, r2, r3) = left, right
            top, bottom = a_times((l0, r0), (l1, r1), (l2, r2), (l3, r3))
            at = (to[p] + f * plane, to[p] + f * plane + lanes)
            store(y, at, (0,), at_least(plus(top, bias), floor, 0))
            store(y, shift(at, line), (0,), at_least(plus(bottom, bias), floor, 0))


@kernel
def products(v, u, zero, m, rows, taps, height, step):
    """Fill m (16, filters, COLUMNS).

    rows  offsets of the filters in u and in m, and zeros, (3, filters)
    taps  offsets of the channels in v and in u, (2, channels)
    height  0, 1, 2, ...: as many as a tile of sums has rows, see `products.heights`
    step  from one tile to the next
    """
    (_, filters), (_, channels), tiles = rows.shape, taps.shape, (0, step, 2 * step, 3 * step)
    weights, outputs, zeros = rows[0], rows[1], rows[2]
    for xi in range(16):
        u_from = xi * filters * channels
        at, to = shift(tiles, xi * channels * COLUMNS * step), shift(tiles, xi * filters * COLUMNS * step)
        for i in range(0, filters, len(height)):
            row = shift(places_of(weights, i, height), u_from)
            sums = tile(v, u, filled(zero, places_of(zeros, i, height), tiles), at, row, taps)
            store(m, to, places_of(outputs, i, height), sums)


@kernel
def sides(starts, steps, images):
    """For x and for y: starts of the tiles, the distance between blocks, and the image."""
    return (starts[0], steps[0], images[0]), (starts[1], steps[1], images[1])


@kernel
def convolve_strips(x, u, bias, y, room, tables, height, first, last):
    """Strips first ... last - 1 of `convolve`, counted block by block."""
    (v, m), (b, zero, floor), (starts, rows, taps, steps, images) = room, bias, tables
    (x_starts, x_step, x_image), (y_starts, y_step, y_image) = sides(starts, steps, images)
    across = (x_starts.size + COLUMNS - 1) // COLUMNS
    for k in range(first, last):
        block, p = k // across, k % across * COLUMNS
        tiles_in(x, v, shift(places_of(x_starts, p, ACROSS), block * x_step), x_image, COLUMNS, 0)
        products(v, u, zero, m, rows, taps, height, x_image[3])
        tiles_out(m, b, floor, y, shift(places_of(y_starts, p, ACROSS), block * y_step), y_image)


@parallel_kernel
def convolve(x, u, bias, y, room, tables, height, blocks, threads):
    """Fill y.

    u       frequencies of the weights, (16, filters, channels)
    bias    b, one zero, and the floor, one number: 0 for a ReLU, -inf for none
    room    v (threads, 16, channels, COLUMNS, lanes), and m (threads, 16, filters, COLUMNS, lanes)
    tables  starts  of the tiles in x and in y, (2, T); rows, taps: see `products`
            steps   distances between blocks in x and in y; images  of x and of y, (2, 4): see `tiles_in`
    height  see `products`; an argument of its own, as threads accept no tuple within a tuple
    """
    starts, (v, m) = tables[0], room
    strips = blocks * ((starts.shape[1] + COLUMNS - 1) // COLUMNS)
    for n in prange(threads):
        own = stretch(v, n, threads), stretch(m, n, threads)
        first, last = n * strips // threads, (n + 1) * strips // threads
        convolve_strips(x, u, bias, y, own, tables, height, first, last)


@kernel
def correlate_strips(x, y, zero, sums, room, tables, parts, first, last):
    """Strips first ... last - 1 of `correlate`, of as many tiles as its columns, counted block by block."""
    (v, d), (starts, columns, rows, taps, steps, images) = room, tables
    tiles = columns.shape[1]
    (x_starts, x_step, x_image), (y_starts, y_step, y_image) = sides(starts, steps, images)
    across, number = (x_starts.size + tiles - 1) // tiles, sums.size // 16
    for k in range(sums.size):
        sums[k] = zero[0]
    for k in range(first, last):
        block, p = k // across, k % across * tiles
        count = min(tiles, x_starts.size - p)
        for q in range(0, count, COLUMNS):
            tiles_in(x, v, shift(places_of(x_starts, p + q, ACROSS), block * x_step), x_image, tiles, q)
            slopes_in(y, d, shift(places_of(y_starts, p + q, ACROSS), block * y_step), y_image, tiles, q)
        for xi in range(16):
            totals = stretch(sums, xi, 16)
            at = xi * (v.size // 16), xi * (d.size // 16)
            correlate_run(
                v, d, zero, totals, parts, (columns, rows, taps), at, (0, count), 0, number // (ROWS * COLUMNS)
            )


@parallel_kernel
def correlate(x, y, zero, sums, room, tables, parts, shares, blocks, threads):
    """Fill sums (shares, 16, ...): tiles of the cotangents of G k G^T, as `products.contraction` writes them.

    The strips are cut into `shares` parts, independently of the number of threads; one thread sums each.

    room    v (threads, 16, channels, tiles, lanes), and d (threads, 16, filters, tiles, lanes)
    tables  starts   of the tiles in x and in y, (2, T)
            columns, rows, taps, parts   of a frequency of v and d: see `correlate` there
            steps, images   as in `convolve`
    """
    (starts, columns, _, _, _, _), (v, d) = tables, room
    tiles = columns.shape[1]
    strips = blocks * ((starts.shape[1] + tiles - 1) // tiles)
    for n in prange(threads):
        own = stretch(v, n, threads), stretch(d, n, threads)
        for k in range(n * shares // threads, (n + 1) * shares // threads):
            first, last = k * strips // shares, (k + 1) * strips // shares
            correlate_strips(x, y, zero, stretch(sums, k, shares), own, tables, parts, first, last)
