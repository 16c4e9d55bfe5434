"""One object for a model: texts, latents, predictions, samples, adapters. Only here is diffusers known."""
