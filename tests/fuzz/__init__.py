"""Files changed at random bytes, for every reader."""
