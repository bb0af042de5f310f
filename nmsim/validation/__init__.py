"""The model against measured hardware: tables of published times, errors, and where a sparse gain goes."""
