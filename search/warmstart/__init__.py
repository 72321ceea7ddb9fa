"""Gradients through the merge, which find good recipes before a sampler draws."""
