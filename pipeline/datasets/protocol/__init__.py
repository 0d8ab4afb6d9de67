"""What any data set gives the rest of the program: frames, classes and geometry."""
