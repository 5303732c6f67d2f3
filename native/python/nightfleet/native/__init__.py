"""The native room."""
