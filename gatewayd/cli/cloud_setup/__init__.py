"""What an operator sets up for a cloud: the device CA, and the files of a broker of the site."""
