"""The run folder: one folder that holds everything one command chain read, found and made."""
