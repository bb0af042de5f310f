"""Sweeps over machines, workloads and recipes, and what is best among their points."""
