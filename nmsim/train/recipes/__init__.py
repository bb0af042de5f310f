"""Recipes at work in training: the masks, masked weights and gradients that their descriptions ask for."""
