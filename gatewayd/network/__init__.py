"""TCP, proxies, TLS, WebSocket, MQTT's rules for a client: for clouds and for brokers."""
