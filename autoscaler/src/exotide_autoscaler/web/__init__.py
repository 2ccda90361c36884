"""What the program shows over HTTP, and what it takes."""
