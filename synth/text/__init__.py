"""What a reply says, told from its text alone; `reply` takes it apart, the others read it."""
