"""The stages of a study, from names of models to files on disk, one unit of work at a time."""
