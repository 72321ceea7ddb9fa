"""Checkers: is a reply right, given the wanted answer? One file, one way to tell.

    exact     the same text, up to case, punctuation and white space
    numeric   the same number, within a tolerance
    choice    the same option of a multiple-choice question
    pattern   a regular expression of the user's, within a time limit
    grader    a chat model that is asked

Replies are written by models and are data: nothing in them is ever run, neither as code nor as a
pattern. `check` holds which of the first four a question wants, and with what.
"""
