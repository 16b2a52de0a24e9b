"""The D-Bus service: org.gatewayd1, its objects, and polkit."""
