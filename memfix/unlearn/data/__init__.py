"""What is forgotten and what is kept: pairs of pictures and texts, made ready to be drawn from."""
