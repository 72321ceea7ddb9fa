"""One Optuna study: what is tried first, its trials, and the processes that run them."""
