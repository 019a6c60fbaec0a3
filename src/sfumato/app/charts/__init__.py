"""Interactive charts of explanations, in Plotly."""
