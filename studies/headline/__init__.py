"""The headline table: for each recipe and pattern the accuracy that it reached beside what it costs on machines."""
