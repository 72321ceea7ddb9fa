"""What came out of a run: front, pick, answers, held-out table, export."""
