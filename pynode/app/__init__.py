"""The command line, the demo, the HTML report."""
