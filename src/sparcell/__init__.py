"""sparcell turns single-cell RNA counts into short, readable codes."""

__version__ = "0.1.0"
