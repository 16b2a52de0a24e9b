"""The TPM 2.0, in process."""
