"""Controllers killed and stopped on purpose; judged from the instrument's own exposure log."""
