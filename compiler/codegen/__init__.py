"""Graph and placement to Plan: what runs in which order, over which memory."""
