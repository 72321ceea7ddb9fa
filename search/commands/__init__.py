"""One whole command each, callable from Python."""
