"""Probes: the record, and what belongs to it."""
