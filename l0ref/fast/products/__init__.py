"""Products of dense matrices and sums of products over tables of offsets: what layers and convolutions come down to."""
