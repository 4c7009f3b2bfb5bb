"""What workflows are made of and made into: schedules, counts, and wrappers of whole workflows."""
