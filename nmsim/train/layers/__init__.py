"""Layers: an explicit forward and backward pair for each operation."""
