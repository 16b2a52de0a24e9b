"""What devices and the owner of a Huawei instance exchange: models, shadows, messages.  No I/O."""
