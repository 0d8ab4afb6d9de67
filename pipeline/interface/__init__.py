"""The steps from archives to a scored frame as functions, for notebooks and other programs."""
