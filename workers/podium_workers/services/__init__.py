"""What task functions are given beside their input: values that are kept elsewhere."""
