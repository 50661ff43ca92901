"""Products of dense matrices, and sums of products over tables of offsets, of which layers and convolutions consist."""
