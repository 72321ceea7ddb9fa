"""Writing probes with models: one stage a file, run by `pipeline`."""
