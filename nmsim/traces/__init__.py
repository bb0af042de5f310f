"""Traces: what a real training run did, with the data that prove it."""
