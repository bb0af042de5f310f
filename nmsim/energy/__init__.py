"""Energy per action."""
