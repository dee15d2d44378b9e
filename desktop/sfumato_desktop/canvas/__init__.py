"""The canvas: how a document is looked at and painted on. `viewport` and `brush` know no Qt; `view` is the widget."""
