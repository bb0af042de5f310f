"""The recipe study: every training recipe on the same small tasks, accuracy beside what the training executed."""
