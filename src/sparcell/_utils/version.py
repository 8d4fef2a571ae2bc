"""The version of sparcell, for results and saved models."""

from __future__ import annotations

VERSION = "0.1.0"
