"""The event engine: the plan of the analytic engine, executed piece by piece on SimPy."""
