"""What is found out by changing a running model: signatures, growth, causal regions, control of the dynamics."""
