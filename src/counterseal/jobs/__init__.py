"""The verbs that join the parts, one file each: what the API and the command line both call."""
