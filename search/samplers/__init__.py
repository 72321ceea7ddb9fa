"""Optuna samplers: ours, and how one is chosen by name."""
