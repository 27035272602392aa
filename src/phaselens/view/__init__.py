"""`phaselens view`: walk through stored runs in the browser, or keep some of them in one file."""
