"""Figures."""
def draw_run(folder):
    return []
