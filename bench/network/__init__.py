"""What a round of the network costs, beside floors that are measured in the same run."""
