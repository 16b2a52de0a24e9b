"""What devices of Alibaba Cloud say: in the vendor's form, and on its way."""
