"""What became of each prompt and control."""
