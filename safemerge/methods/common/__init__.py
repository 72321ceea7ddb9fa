"""What several merge methods are built of. The methods are beside this folder."""
