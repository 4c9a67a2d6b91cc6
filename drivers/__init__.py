"""The instrument: vocabulary, protocols, and one module or folder per driver."""
