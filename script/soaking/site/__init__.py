"""A site of three gateways, three members of etcd and many children, with faults at random."""
