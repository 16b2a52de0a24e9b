"""gatewayd discovers child devices on the LAN, registers each at a cloud, and keeps its secret.

A child passes through these folders, in this order:

    discovery       it is seen on the LAN, and identified by its claims
    admission       the rules or an operator admit it, reject it, or leave it pending
    registration    a cloud issues its secret
    secretstore     the secret is durable
    sessions        it is online, or offline until it is logged in again

Then it speaks to its cloud by messages/, and is commanded by it through commands/.

credentials/ gives a child's credential to the program that is to have its session instead.
manager/ moves it from state to state, by the tables of device/lifecycle.py.  Around them: cloud/
has the clouds, storage/ the durable records, dbus/ the D-Bus service, cli/ gatewayctl.  settings/
and runtime/ serve all of them; app.py builds everything, and daemon.py runs it.
"""

__version__ = "0.1.0"
