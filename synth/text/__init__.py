"""Checks on plain text, without a model.

degenerate    empty, looping, hardly text
refusal       a refusal, whole or partial
ignorance     an admission that the answer is not known
premise       a denial of what the question takes for granted
strict_json   a reply as one JSON object
normalise     what counts as the same text
"""
