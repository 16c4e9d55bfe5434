"""Reading prompt lists and reference images."""
