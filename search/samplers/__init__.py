"""Optuna samplers, and how one is chosen by name."""
