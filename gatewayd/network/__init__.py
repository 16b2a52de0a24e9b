"""TCP, TLS and MQTT's rules for a client: what connections to clouds and to brokers share."""
