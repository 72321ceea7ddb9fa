"""Checkers: is a reply right, given the wanted answer? One file, one way to tell.

Replies are data: nothing in them is ever run, neither as code nor as a pattern.
"""
