"""Checks on plain text, without a model."""
