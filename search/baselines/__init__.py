"""What a search is compared with, one file each."""
