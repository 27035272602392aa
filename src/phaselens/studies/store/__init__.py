"""What stands in the folder of a study beside its traces: whose it is, what was registered, what analyses read."""
