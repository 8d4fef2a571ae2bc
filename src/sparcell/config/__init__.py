"""Every setting once: its type, default, help and range."""
