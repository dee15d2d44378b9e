"""How the window looks: dark and light palettes over Qt's Fusion style, and the few sizes that widgets share."""

from __future__ import annotations

from PySide6.QtGui import QColor, QPalette
from PySide6.QtWidgets import QApplication

SPACING = 8

_DARK = {
    QPalette.ColorRole.Window: "#2b2c2f",
    QPalette.ColorRole.WindowText: "#e8e8ea",
    QPalette.ColorRole.Base: "#1f2022",
    QPalette.ColorRole.AlternateBase: "#27282b",
    QPalette.ColorRole.Text: "#e8e8ea",
    QPalette.ColorRole.PlaceholderText: "#8b8d93",
    QPalette.ColorRole.Button: "#37383c",
    QPalette.ColorRole.ButtonText: "#e8e8ea",
    QPalette.ColorRole.Highlight: "#4d7fb8",
    QPalette.ColorRole.HighlightedText: "#ffffff",
    QPalette.ColorRole.ToolTipBase: "#37383c",
    QPalette.ColorRole.ToolTipText: "#e8e8ea",
}
_LIGHT = {
    QPalette.ColorRole.Window: "#f0f0f2",
    QPalette.ColorRole.WindowText: "#1d1d20",
    QPalette.ColorRole.Base: "#ffffff",
    QPalette.ColorRole.AlternateBase: "#f6f6f8",
    QPalette.ColorRole.Text: "#1d1d20",
    QPalette.ColorRole.PlaceholderText: "#77787e",
    QPalette.ColorRole.Button: "#e4e4e8",
    QPalette.ColorRole.ButtonText: "#1d1d20",
    QPalette.ColorRole.Highlight: "#2f6fb5",
    QPalette.ColorRole.HighlightedText: "#ffffff",
    QPalette.ColorRole.ToolTipBase: "#ffffff",
    QPalette.ColorRole.ToolTipText: "#1d1d20",
}
THEMES = {"dark": _DARK, "light": _LIGHT}


def apply(application: QApplication, name: str) -> None:
    """Give the whole program a theme by name ("dark", "light")."""
    application.setStyle("Fusion")
    palette = QPalette()
    for role, colour in THEMES[name].items():
        palette.setColor(role, QColor(colour))
    for role in (QPalette.ColorRole.Text, QPalette.ColorRole.ButtonText, QPalette.ColorRole.WindowText):
        palette.setColor(QPalette.ColorGroup.Disabled, role, QColor("#7a7b80"))
    application.setPalette(palette)
