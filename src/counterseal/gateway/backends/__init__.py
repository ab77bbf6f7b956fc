"""What answers: a model in this process, or another server. One seam, one file each."""
