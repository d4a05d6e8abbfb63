"""Diff-Trans (Chowdary and Yin 2023) after its figures: no code was released, so an approximation at any size."""
