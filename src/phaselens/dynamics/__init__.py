"""What a run, or a model, does as a whole: regimes, collapse, the G/D ratio. Plain NumPy on stored columns."""
