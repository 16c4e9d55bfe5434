"""Loading, sampling and saving pipelines; devices, latents, noise."""
