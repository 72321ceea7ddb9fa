"""H3Fusion: a mixture of aligned experts in an ordinary architecture of transformers.

After Tekin et al. 2024 (2411.17792); docs/fusion.md says what is the paper's and what is not.

layouts       which mixture architecture holds a dense one
mixture       build one from a base and sources
answer_loss, gating_loss, drift_loss    the terms of the loss
tuning        train router and experts; alignment tunes one expert before
routing       where tokens go, and what an expert is good for
export        write a mixture as a checkpoint
"""
