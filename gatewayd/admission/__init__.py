"""Admission: who may join. Rules, operators and the join window admit, hold or reject a device."""
