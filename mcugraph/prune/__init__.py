"""Pruning decided in training: the only package that imports torch, and only when it is used."""
