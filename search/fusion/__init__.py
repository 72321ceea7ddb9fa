"""A mixture of a config's sources: tuned on its search probes, measured as any merge is."""
