"""Tables of real data: what a file holds, column by column."""
