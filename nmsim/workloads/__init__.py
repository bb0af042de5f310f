"""Networks as tables of operations."""
