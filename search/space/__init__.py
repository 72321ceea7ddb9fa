"""Numbers to recipes and back."""
