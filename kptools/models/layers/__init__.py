"""Layers that backbones, necks and heads are made of. One a file."""
