"""The vocabulary and the loop: what a process is made of, and how its parts come together."""
