"""Why Alibaba Cloud's API refuses a request, and what to do: the vendor's codes.  Pure.

Sources: the vendor's pages "Error codes" of the IoT Platform's API (help.aliyun.com/
document_detail/87387) and "Common error codes" (error-center.aliyun.com/status/product/Public).
What the API says beside the code is never quoted: of a wrong signature it is the text that was
signed, with the security token in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

TOO_FAST = ("Throttling", "iot.common.QuotaLimit", "ServiceUnavailable")
"""How the codes of requests begin that are put off: nothing was done for them."""

NO_DEVICE = "iot.device.NotExistedDevice"
NO_PRODUCT = "iot.prod.NotExistedProduct"
NAME_TAKEN = "iot.device.AlreadyExistedDeviceName"
STILL_RUNNING = "iot.device.CreateDeviceTaskIsRunning"

_CODE = re.compile(r"[A-Za-z0-9._-]{1,80}")


@dataclass(frozen=True, slots=True)
class ApiRefusal:
    """A cause, and a remedy.  Both without a full stop; `{action}` is the name of the call."""

    cause: str
    remedy: str


_KEY = ApiRefusal(
    "the access key is not known to Alibaba Cloud, or is disabled",
    "Enable it in the RAM console, or make another one there",
)
_WRONG_SECRET = ApiRefusal(
    "the secret is not that of this access key",
    "Pass the AccessKeySecret that was shown with this AccessKeyId; if it is lost, make another "
    "access key in the RAM console",
)
_TOKEN = ApiRefusal(
    "the security token has expired, or is not that of this access key",
    "Get temporary credentials once more (STS, AssumeRole), and pass all three of their lines",
)
_PERMISSION = ApiRefusal(
    "the user of this access key may not do it, or it is not of this account",
    "Allow that user iot:{action} in the RAM console, and check --instance",
)
_CLOCK = ApiRefusal(
    "the clock of this machine is more than 15 minutes off",
    "Set it, as by timedatectl set-ntp true, and run the command again",
)
_INSTANCE = ApiRefusal(
    "there is no instance of this ID here",
    "Use --instance with the ID on the console's page Overview, and --region with its region; "
    "leave --instance out where the console shows no ID",
)
_ENDPOINT = ApiRefusal(
    "this endpoint does not serve the API of the IoT Platform",
    "Check --endpoint and --region: the endpoint of a region is iot.REGION.aliyuncs.com",
)
_PRODUCT = ApiRefusal(
    "there is no such product in this instance",
    "See console alibaba product list for those there are, and check --region and --instance",
)
_PRODUCT_NAME = ApiRefusal(
    "the name of the product is not allowed",
    "Use 4 to 30 letters, digits and underscores; a Chinese character counts as two",
)
_LATER = ApiRefusal(
    "the platform could not do it", "Try again in some minutes, and see the console for its state"
)
_BATCH = ApiRefusal(
    "the platform does not have this batch any more, or has registered it already",
    "Run the same command again: it registers what is missing",
)

REFUSALS: Mapping[str, ApiRefusal] = {
    "InvalidAccessKeyId.NotFound": _KEY,
    "InvalidAccessKeyId.Inactive": _KEY,
    "InvalidAccessKeyId": _KEY,
    "SignatureDoesNotMatch": _WRONG_SECRET,
    "IncompleteSignature": _WRONG_SECRET,
    "InvalidAccessKeySecret": _WRONG_SECRET,
    "InvalidSecurityToken.Expired": _TOKEN,
    "InvalidSecurityToken.Malformed": _TOKEN,
    "InvalidSecurityToken.MismatchWithAccessKey": _TOKEN,
    "MissingSecurityToken": _TOKEN,
    "Forbidden.RAM": _PERMISSION,
    "NoPermission": _PERMISSION,
    "iot.common.RamActionPermissionDeny": _PERMISSION,
    "iot.common.AuthActionPermissionDeny": _PERMISSION,
    "InvalidTimeStamp.Expired": _CLOCK,
    "IllegalTimestamp": _CLOCK,
    "SignatureNonceUsed": ApiRefusal(
        "the platform says that this request has arrived before",
        "Run the command again: what was done is not done twice",
    ),
    "InvalidAction.NotFound": _ENDPOINT,
    "InvalidProduct.NotFound": _ENDPOINT,
    "InvalidVersion": _ENDPOINT,
    "iot.system.InstanceNotFound": _INSTANCE,
    "iot.Sre.IotInstanceNotFound": _INSTANCE,
    "iot.system.UidNotFound": ApiRefusal(
        "the IoT Platform is not activated for this account",
        "Activate it at the console of the IoT Platform",
    ),
    "iot.system.BillIsOverDue": ApiRefusal(
        "the account has a payment overdue", "Pay it at the Expenses page of the account"
    ),
    "iot.system.SystemException": _LATER,
    NO_PRODUCT: _PRODUCT,
    "iot.prod.InvalidFormattedProductkey": _PRODUCT,
    "iot.prod.InvalidFormattedProductName": _PRODUCT_NAME,
    "iot.prod.NullProductName": _PRODUCT_NAME,
    "iot.prod.AlreadyExistedProductName": ApiRefusal(
        "there is a product of this name already",
        "Run the command again, which finds that; or choose another name",
    ),
    "iot.prod.ProductCountExceedMax": ApiRefusal(
        "the instance has as many products as it may have",
        "Delete one at the console, or use one that is there",
    ),
    "iot.prod.CreateProductFailed": _LATER,
    NO_DEVICE: ApiRefusal(
        "there is no such device in this product",
        "Check its name and the product, or add it by console alibaba device register",
    ),
    NAME_TAKEN: ApiRefusal(
        "the product has a device of this name already", "Nothing has to be done for it"
    ),
    "iot.device.InvalidFormattedDeviceName": ApiRefusal(
        "a device name is not allowed",
        "Use 4 to 32 letters, digits and - _ @ . : for each",
    ),
    "iot.device.DeviceCountExceeded": ApiRefusal(
        "the product or the instance has as many devices as it may have",
        "Delete some, or have the limit raised (Quotas, at the console)",
    ),
    "iot.device.DeviceApplyIsNotFound": _BATCH,
    "iot.device.InvalidFormattedApplyId": _BATCH,
    "iot.device.IncorrentDeviceApplyInfo": _BATCH,
    STILL_RUNNING: ApiRefusal(
        "the platform is still busy with another batch",
        "Run the same command again in some minutes: it registers what is missing",
    ),
    "iot.device.ApplyManyDevicesFailed": _LATER,
    "iot.device.CreateDeviceFailed": _LATER,
    "iot.device.DeleteDeviceFailed": _LATER,
}  # fmt: skip

_FOLDED = {code.lower(): refusal for code, refusal in REFUSALS.items()}
"""The vendor's own pages write one code in two ways: Iot.system and iot.system."""


def is_put_off(code: str) -> bool:
    """Whether a request is to be sent again later, as nothing was done for it."""
    return code.startswith(TOO_FAST)


def refusal_of(code: str) -> ApiRefusal:
    """Return what a code means, as the API sends it."""
    if found := _FOLDED.get(code.lower()):
        return found
    return ApiRefusal(
        "the platform does not do it",
        "Look the code up at error-center.aliyun.com",
    )


def shown_code(code: str) -> str:
    """Return a code for people: "(unreadable)" for what is none."""
    return code if _CODE.fullmatch(code) else "(unreadable)"
