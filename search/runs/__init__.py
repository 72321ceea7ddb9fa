"""The folder of a run, and what a search holds in memory."""
