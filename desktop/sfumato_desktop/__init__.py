"""The window: PySide6 over a core that knows no Qt."""
