"""Probes: the record, its file, and how a set is split."""
