"""Simulator and co-design toolkit for N:M structured sparsity."""
