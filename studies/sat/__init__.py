"""The SAT accelerator with BDWP 2:8 against dense training: speed-up, ablation, sweeps, what the figures rest on."""
