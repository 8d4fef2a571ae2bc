"""What several tests need: cells made by hand, fixtures, stand-ins."""
