"""An instrument that exists only in software: what `virtual` and `replay` have in common."""
