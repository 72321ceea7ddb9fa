"""One model to scores: by likelihood, and by graded answers."""
