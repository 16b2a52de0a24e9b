"""The device manager: the event queue that moves devices through their states."""
