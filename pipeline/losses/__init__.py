"""What is minimised: losses as sums and counts that add up over ranks."""
