"""Writing probes with models.

pipeline        runs the stages, puts their probes together, writes the files
domain, harmful, unknowable, multiple_choice    the stages
context         what the stages share: writing, sifting, asking the pool, keeping
questions       the records: a request for a question, and a question
difficulty      down-samples what everybody or nobody answers
documents, user_questions    what the user brings
schema          questions as JSON
replay          keeps replies, so that a stopped run goes on
config, taxonomy    what to write, and about what
"""
