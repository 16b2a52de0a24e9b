"""The error of the simulated Huawei platform, with the vendor's code and text.

Sources: the vendor's list of error codes (api-iothub/iot_06_v5_0018), and those of single APIs.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class IotdaCode(StrEnum):
    """The codes of the vendor's list, and after them invented ones where it prints none."""

    INVALID_INPUT = "IOTDA.000006"
    BAD_REQUEST = "IOTDA.000008"
    LIMIT_OUT_OF_RANGE = "IOTDA.000017"
    MARKER_OUT_OF_RANGE = "IOTDA.000018"
    UNKNOWN_APP = "IOTDA.001000"
    UNKNOWN_DEVICE = "IOTDA.014000"
    DEVICE_OFFLINE = "IOTDA.014016"
    GATEWAY_OFFLINE = "IOTDA.014028"
    DEVICE_EXISTS = "IOTDA.014031"
    COMMAND_TIMEOUT = "IOTDA.014111"
    NOT_SUBSCRIBED = "IOTDA.014112"
    CA_LIMIT = "IOTDA.014300"
    BAD_CERTIFICATE = "IOTDA.014301"
    VERIFY_CODE = "IOTDA.014307"
    VERIFY_PATH = "IOTDA.014308"
    TOO_FAST = "IOTDA.021101"
    NOT_A_CHILD = "IOTDA.021104"

    UNKNOWN_INSTANCE = "IOTDA.000901"
    NOT_OFFERED = "IOTDA.000902"
    APP_LIMIT = "IOTDA.001901"
    APP_PROTECTED = "IOTDA.001902"
    UNKNOWN_PRODUCT = "IOTDA.013901"
    PRODUCT_EXISTS = "IOTDA.013902"
    PRODUCT_IN_USE = "IOTDA.013903"
    PRODUCT_LIMIT = "IOTDA.013904"
    DEVICE_LIMIT = "IOTDA.014901"
    CHILD_LIMIT = "IOTDA.014902"
    HAS_CHILDREN = "IOTDA.014903"
    TOO_DEEP = "IOTDA.014904"
    TAG_LIMIT = "IOTDA.014905"
    DEVICE_FROZEN = "IOTDA.014906"
    UNKNOWN_CA = "IOTDA.014911"
    CA_EXISTS = "IOTDA.014912"
    CA_UNVERIFIED = "IOTDA.014913"
    UNKNOWN_CERTIFICATE = "IOTDA.014914"
    UNKNOWN_TEMPLATE = "IOTDA.014921"
    TEMPLATE_LIMIT = "IOTDA.014922"
    TEMPLATE_IN_USE = "IOTDA.014923"
    TEMPLATE_EXISTS = "IOTDA.014924"
    UNKNOWN_MESSAGE = "IOTDA.014941"
    MESSAGE_EXISTS = "IOTDA.014942"
    SHADOW_VERSION = "IOTDA.014943"
    UNKNOWN_POLICY = "IOTDA.014931"
    POLICY_LIMIT = "IOTDA.014932"
    POLICY_EXISTS = "IOTDA.014933"
    UNKNOWN_RULE = "IOTDA.014951"
    RULE_LIMIT = "IOTDA.014952"
    RULE_WITHOUT_ACTION = "IOTDA.014953"


_MESSAGES: Mapping[IotdaCode, str] = {
    IotdaCode.INVALID_INPUT: "Invalid input data.",
    IotdaCode.BAD_REQUEST: "Invalid input. Bad request.",
    IotdaCode.LIMIT_OUT_OF_RANGE: (
        "Invalid input. The specified parameter 'limit' is out of range."
    ),
    IotdaCode.MARKER_OUT_OF_RANGE: (
        "Invalid input. The specified parameter 'marker' is out of range."
    ),
    IotdaCode.UNKNOWN_APP: "The application does not exist.",
    IotdaCode.UNKNOWN_DEVICE: "Operation not allowed. The device does not exist.",
    IotdaCode.DEVICE_OFFLINE: "Operation not allowed. The device is not online.",
    IotdaCode.GATEWAY_OFFLINE: "Invalid input. The gateway is not online.",
    IotdaCode.DEVICE_EXISTS: "Invalid input. The device already exists.",
    IotdaCode.COMMAND_TIMEOUT: (
        "Command request timed out. Check whether the device returns a response within the "
        "specified time after receiving the request."
    ),
    IotdaCode.NOT_SUBSCRIBED: "Operation not allowed. The device has not subscribed to the topic.",
    IotdaCode.CA_LIMIT: "Operation not allowed. The number of certificates has reached the limit.",
    IotdaCode.BAD_CERTIFICATE: "Invalid certificate content.",
    IotdaCode.VERIFY_CODE: "Operation not allowed. The certificates verify verifyCode failed.",
    IotdaCode.VERIFY_PATH: "Operation not allowed. The certificate failed to verify the path.",
    IotdaCode.TOO_FAST: "Request reached the maximum rate limit.",
    IotdaCode.NOT_A_CHILD: (
        "Subdevices in the request does not exist or does not belong to the gateway."
    ),
}
"""The vendor's text of a code; the others have their names."""


class PlatformError(Exception):
    """A refusal of the platform.

    message: the vendor's text, followed by `detail` if there is any.
    status: of an HTTP answer.
    """

    def __init__(self, code: IotdaCode, detail: str = "") -> None:
        own = "Operation not allowed: " + code.name.lower().replace("_", " ") + "."
        self.code, self.message = code, " ".join(filter(None, [_MESSAGES.get(code, own), detail]))
        super().__init__(f"{code}: {self.message}")

    @property
    def status(self) -> int:
        """The HTTP status: 404 for unknown objects, 403 for exceeded limits, else 400.

        A device that does not respond is no error of the request (api-iothub/ErrorCode).
        """
        if self.code is IotdaCode.COMMAND_TIMEOUT:
            return 200
        if self.code.name.startswith("UNKNOWN_"):
            return 404
        full = self.code.name.endswith("_LIMIT") and self.code is not IotdaCode.CA_LIMIT
        return 403 if full or self.code in _FORBIDDEN else 400

    @property
    def body(self) -> dict[str, str]:
        """The body of an HTTP answer."""
        return {"error_code": str(self.code), "error_msg": self.message}


_FORBIDDEN = frozenset(
    {
        IotdaCode.TOO_FAST,
        IotdaCode.NOT_OFFERED,
        IotdaCode.APP_PROTECTED,
        IotdaCode.DEVICE_OFFLINE,
        IotdaCode.NOT_SUBSCRIBED,
    }
)
