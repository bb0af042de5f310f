"""Machines, described in YAML."""
