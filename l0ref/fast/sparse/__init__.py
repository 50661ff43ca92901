"""Compiled twins of the operations with sparse weights: products and convolutions."""
