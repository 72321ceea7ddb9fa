"""A judge trained in the project, which needs no download: one linear model on another.

sentences   a reply's sentences, and the hashed n-grams of each
facts       what the sentences of a reply come to, in 30 numbers
weights     the weights of both models, in one checked file
judge       from replies to verdicts

`benchmarks/train_judge.py` trains it; README.md in the folder above says how good it is.
"""
