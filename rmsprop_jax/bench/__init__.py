"""The benchmark: a jitted, donated step beside the steps of other implementations."""
