"""Parts and wrappers of workflows: schedules, counts, and wrappers of whole workflows."""
