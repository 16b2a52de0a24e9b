"""A site of several gateways: whose each child is, by leases in etcd."""
