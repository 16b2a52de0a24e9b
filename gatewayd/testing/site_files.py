"""What a site is configured by: templates, to be formatted with the site."""

from __future__ import annotations

CONFIG = """\
[gateway]
state_directory = "{site.directory}/state"
[bus]
address = "{site.bus}"
[discovery]
settle = 0.5
verify_wait = 0.5
verify_spread = 0.5
verify_gap = 1
[discovery.mdns]
interfaces = ["{site.interface}"]
types = ["_gatewayd-child._tcp"]
[registration]
quiet_time = 1
retry_first = 1
[sessions]
retry_first = 1
per_minute = 60
[secretstore.vault]
key = "development-file"
[cloud.alibaba]
host = "{site.plant[host]}"
port = {site.plant[port]}
ca_file = "{site.directory}/ca.pem"
unlisted = true
[cloud.alibaba.products.{site.plant[product]}]
secret_file = "{site.directory}/product-secret"
device_directory = "{site.directory}/device-secrets"
"""

GATEWAY = """\
[cloud.alibaba.products.{key}]
secret_file = "{directory}/gateway-secret"
[cloud.alibaba.gateway]
product = "{key}"
device = "{name}"
register = true
tell_found = true
"""
"""What sub-devices need besides."""

RULES = """\
# A sensor that the operator has listed is let in; any other waits for a yes.
[[rule]]
name = "sensors"
match = {{ source = "mdns", service = "_gatewayd-child._tcp", "txt.model" = "TH-20" }}
extract = {{ serial = "txt.serial ~ (TH20-[0-9A-F]{{6}})" }}
list = "../serials.txt"
action = "register"
provider = "alibaba"
product = "{site.plant[product]}"
device_name = "{{serial}}"
route = "{site.route}"
"""
