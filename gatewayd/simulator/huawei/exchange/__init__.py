"""What devices and the owner of a Huawei instance exchange: reports, commands, messages."""
