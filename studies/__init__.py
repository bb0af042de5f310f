"""Studies made with nmsim; each folder holds its code, its table and what it showed."""
