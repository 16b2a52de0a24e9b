"""Why a device has not proven its key or its identity: codes, sentences and remedies."""

from __future__ import annotations

from gatewayd.device.reason import Reason

NO_ADDRESS = Reason(
    "proof-no-address",
    "It has no address on the LAN at which it could prove its key.",
)
UNREACHABLE = Reason(
    "proof-unreachable",
    "It cannot be reached at its address to prove its key.",
    "Check its network, and that its address is on the link of the gateway.",
)
REFUSED = Reason(
    "proof-port-closed",
    "It refuses the connection at which it would prove its key.",
    "Switch HTTPS, or what else the proof names, on at the device; or correct the port of the "
    "table proof, then run systemctl restart gatewayd.",
)
TIMED_OUT = Reason(
    "proof-timed-out",
    "It has not proven its key in time.",
    "Check that the device is not overloaded, and that its firmware answers there.",
)
TOO_MUCH = Reason(
    "proof-too-large",
    "It has sent more than a certificate chain may have, so that its key is not proven.",
    "Give the device a shorter chain of certificates.",
)
NO_HANDSHAKE = Reason(
    "proof-no-handshake",
    "The handshake that would prove its key has failed.",
    "Check what the device speaks there; of TLS, with openssl s_client.",
)
OLD_TLS = Reason(
    "proof-tls-too-old",
    "It speaks no version of TLS from 1.2 on, so that its key is not proven.",
    "Update the firmware of the device.",
)
NOT_TRUSTED = Reason(
    "proof-not-trusted",
    "Its certificate does not lead to a CA certificate of its vendor that the configuration names.",
    "Check who signed it with gatewayctl explain CHILD; if it is genuine, add the vendor's CA "
    "certificate to ca_files, then run gatewayctl reload.",
)
EXPIRED = Reason(
    "proof-expired",
    "Its certificate, or one that leads to it, has expired.",
    "Give the device a new certificate; or add the vendor's new CA certificate to ca_files, then "
    "run gatewayctl reload.",
)
NOT_YET_VALID = Reason(
    "proof-not-yet-valid",
    "Its certificate is not valid yet, by the gateway's clock.",
    "Check the time with timedatectl.",
)
UNREADABLE = Reason(
    "proof-unreadable",
    "Its certificate cannot be read.",
    "Give the device another certificate.",
)
NAMELESS = Reason(
    "proof-without-identity",
    "Its certificate is its vendor's, and has no identity where the configuration looks for it.",
    "Correct identity in the table proof, then run systemctl restart gatewayd.",
)
NO_ROOTS = Reason(
    "proof-ca-files",
    "The vendor's CA certificates cannot be read, so that no certificate can be verified.",
    "Correct ca_files in the table proof, or the files, then run gatewayctl reload.",
)
NO_LIBRARY = Reason(
    "proof-needs-asyncssh",
    "Host keys of SSH are verified by the library asyncssh, which is not installed.",
    "Run apt install python3-asyncssh, then systemctl restart gatewayd.",
)
NO_OWN = Reason(
    "proof-own-certificate",
    "The secret store does not have gatewayd's own certificate, by which it asks an OPC UA server.",
    "Check the store with gatewayctl store status.",
)
NO_POLICY = Reason(
    "proof-no-policy",
    "It offers no endpoint of OPC UA with a security policy by which it could prove its key.",
    "Switch Basic256Sha256 on at the device, with a certificate of its own, whose key is of RSA "
    "with 2048 to 4096 bits.",
)
CLIENT_REFUSED = Reason(
    "proof-certificate-refused",
    "It opens no secure channel of OPC UA for gatewayd, whose certificate it may not trust.",
    "Have the device trust opc-ua.der of gatewayd's state directory, /var/lib/gatewayd, then run "
    "gatewayctl retry CHILD; if it does already, check that no other answers in its place.",
)
NO_CHANNEL = Reason(
    "proof-no-channel",
    "The secure channel of OPC UA that would prove its key has failed.",
    "Check with another client that the device has an endpoint with Basic256Sha256.",
)
NOT_ITS_KEY = Reason(
    "proof-without-key",
    "It shows a certificate of OPC UA, and has not proven that it has its key.",
    "Check that no other device answers in its place.",
)
OTHER_APPLICATION = Reason(
    "proof-other-application",
    "Its certificate is its vendor's, and is that of another application of OPC UA than it says.",
    "Correct ApplicationUri at the device, or give it a certificate with its own.",
)
NO_VERIFIER = Reason(
    "proof-needs-openssl",
    "Certificates of OPC UA are verified by the library pyOpenSSL, which is not installed.",
    "Run apt install python3-openssl, then systemctl restart gatewayd.",
)
OTHER_CERTIFICATE = Reason(
    "proof-of-other-certificate",
    "It has its key, but no certificate that says what was proven when it was first approved.",
    "Compare its certificate with gatewayctl explain CHILD.",
)
FAILED = Reason(
    "proof-failed",
    "gatewayd has a fault where it has the device prove its key; the journal has the details.",
)
