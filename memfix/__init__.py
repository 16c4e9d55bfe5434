"""memfix: find the prompts that make a diffusion model reproduce training images, unlearn them, prove it."""

__version__ = "0.1.0"
