"""Checkers: is a text the wanted answer? One file, one way to tell; `check` has them all.

Replies are data: nothing in them is ever run, neither as code nor as a pattern.
"""
