"""Probes: the record and what belongs to it.

probe     one question with its wanted answer, and sets of them
origin    how models made a probe
verdict   what a reply does with a request
splits    which probes are searched on, validated on, held out
stats     what became of every question of a probe file
jsonl     JSON Lines in and out
"""
