"""Certificates and templates at the simulated Huawei platform's management interface.  Pure.

Source: the vendor's APIs "Device CA certificate management", "Device certificate management" and
"Provisioning template management" (api-iothub), and the models of its Python SDK.
"""

from __future__ import annotations

from collections.abc import Mapping

from gatewayd.simulator.huawei import times
from gatewayd.simulator.huawei.management.devices import simple
from gatewayd.simulator.huawei.management.rest import (
    ManagementAnswer,
    ManagementRequest,
    ManagementRoute,
    page,
)
from gatewayd.simulator.huawei.platform.authorities import DeviceCa
from gatewayd.simulator.huawei.platform.device_certificates import DeviceCertificate
from gatewayd.simulator.huawei.platform.errors import IotdaCode, PlatformError
from gatewayd.simulator.huawei.platform.templates import StoredTemplate

_CHANGEABLE = (
    "provision_enable", "template_id", "ocsp_enable", "ocsp_ssl_enable", "ocsp_server_ca_id",
)  # fmt: skip


def _upload(request: ManagementRequest) -> ManagementAnswer:
    body = request.body
    return _ca(request.instance.authorities.upload(body.demand("content"), body.text("app_id")))


def _list_cas(request: ManagementRequest) -> ManagementAnswer:
    found = request.instance.authorities.list(request.query.text("app_id"))
    return page("certificates", found, request.query, _ca)


def _show_ca(request: ManagementRequest) -> ManagementAnswer:
    authority = request.instance.authorities.get(request.path["certificate_id"])
    return {**_ca(authority), "content": authority.content}


def _verify_ca(request: ManagementRequest) -> None:
    if request.query.text("action_id") != "verify":
        raise PlatformError(IotdaCode.INVALID_INPUT, "(action_id)")
    content = request.body.demand("verify_content")
    request.instance.authorities.verify(request.path["certificate_id"], content)


def _update_ca(request: ManagementRequest) -> ManagementAnswer:
    changes = request.body.given(*_CHANGEABLE)
    return _ca(request.instance.authorities.update(request.path["certificate_id"], changes))


def _delete_ca(request: ManagementRequest) -> None:
    request.instance.authorities.delete(request.path["certificate_id"])


def _ca(authority: DeviceCa) -> Mapping[str, object]:
    return {
        "certificate_id": authority.certificate_id,
        "cn_name": authority.cn_name,
        "owner": authority.owner,
        "status": authority.status,
        "verify_code": authority.verify_code,
        **{name: getattr(authority, name) for name in _CHANGEABLE},
        "create_date": times.basic(authority.created),
        "effective_date": times.basic(authority.effective),
        "expiry_date": times.basic(authority.expiry),
    }


def _list_certificates(request: ManagementRequest) -> ManagementAnswer:
    query = request.query
    found = request.instance.certificates.list(
        common_name=query.text("common_name"), fingerprint=query.text("fingerprint")
    )
    return page("device_certificates", found, query, _certificate)


def _show_certificate(request: ManagementRequest) -> ManagementAnswer:
    return _whole(request.instance.certificates.get(request.path["certificate_id"]))


def _update_certificate(request: ManagementRequest) -> ManagementAnswer:
    status = request.body.demand("status")
    return _whole(request.instance.certificates.update(request.path["certificate_id"], status))


def _delete_certificate(request: ManagementRequest) -> None:
    request.instance.certificates.delete(request.path["certificate_id"])


def _list_devices(request: ManagementRequest) -> ManagementAnswer:
    """List the devices that have used a certificate, and are still there."""
    known = request.instance.certificates.devices(request.path["certificate_id"])
    found = [one for name in known if (one := request.instance.devices.lookup(name))]
    return page("devices", found, request.body, simple)


def _certificate(certificate: DeviceCertificate) -> Mapping[str, object]:
    return {
        "certificate_id": certificate.certificate_id,
        "common_name": certificate.common_name,
        "expiry_date": times.basic(certificate.expiry),
        "fingerprint": certificate.fingerprint,
        "status": certificate.status,
    }


def _whole(certificate: DeviceCertificate) -> Mapping[str, object]:
    return {**_certificate(certificate), "certificate_pem": certificate.pem}


def _create_template(request: ManagementRequest) -> ManagementAnswer:
    body = request.body
    return _full(
        request.instance.templates.create(
            body.demand("template_name"), body.any("template_body"), body.text("description")
        )
    )


def _list_templates(request: ManagementRequest) -> ManagementAnswer:
    found = request.instance.templates.list(request.query.text("template_name"))
    return page("templates", found, request.query, _template)


def _show_template(request: ManagementRequest) -> ManagementAnswer:
    return _full(request.instance.templates.get(request.path["template_id"]))


def _update_template(request: ManagementRequest) -> ManagementAnswer:
    """Update a template; its name is passed on, to be refused."""
    changes = request.body.given("template_name", "template_body", "description")
    return _full(request.instance.templates.update(request.path["template_id"], changes))


def _delete_template(request: ManagementRequest) -> None:
    request.instance.templates.delete(request.path["template_id"])


def _template(template: StoredTemplate) -> Mapping[str, object]:
    return {
        "template_id": template.template_id,
        "template_name": template.name,
        "description": template.description,
        "create_time": times.basic(template.created),
        "update_time": times.basic(template.updated),
    }


def _full(template: StoredTemplate) -> Mapping[str, object]:
    return {**_template(template), "template_body": template.body}


_CA, _SEEN = "/certificates/{certificate_id}", "/device-certificates/{certificate_id}"
_TEMPLATE = "/provisioning-templates/{template_id}"
ROUTES: tuple[ManagementRoute, ...] = (
    ("POST", "/certificates", 201, _upload),
    ("GET", "/certificates", 200, _list_cas),
    ("GET", _CA, 200, _show_ca),
    ("PUT", _CA, 200, _update_ca),
    ("DELETE", _CA, 204, _delete_ca),
    ("POST", f"{_CA}/action", 200, _verify_ca),
    ("GET", "/device-certificates", 200, _list_certificates),
    ("GET", _SEEN, 200, _show_certificate),
    ("PUT", _SEEN, 200, _update_certificate),
    ("DELETE", _SEEN, 204, _delete_certificate),
    ("POST", f"{_SEEN}/list-device", 200, _list_devices),
    ("POST", "/provisioning-templates", 201, _create_template),
    ("GET", "/provisioning-templates", 200, _list_templates),
    ("GET", _TEMPLATE, 200, _show_template),
    ("PUT", _TEMPLATE, 200, _update_template),
    ("DELETE", _TEMPLATE, 204, _delete_template),
)
