"""N:M patterns, masks, packed formats and recipe descriptions."""
