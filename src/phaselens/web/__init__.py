"""What every page that we serve shares: who may ask, where it listens, and the one file that a page is put into."""
