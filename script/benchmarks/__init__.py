"""What gatewayd costs, measured on real parts: run by script/bench."""
