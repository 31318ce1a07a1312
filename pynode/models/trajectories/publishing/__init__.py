"""What a fitted model is published with: summaries, reports, comparisons, pages."""
