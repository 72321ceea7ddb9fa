"""Writing probes with models: `pipeline` runs the stages, `context` holds what they share."""
