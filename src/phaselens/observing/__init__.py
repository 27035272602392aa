"""From a model, or from states that others saved, to a trace: `recording` observes, `saved_states` needs no model."""
