"""Probes from the prompt files that benchmarks publish; none of them is part of this project."""
