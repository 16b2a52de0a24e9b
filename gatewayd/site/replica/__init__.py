"""What the site has of the children, in etcd, and what is here of them."""
