// The form of setup, without a browser.

import assert from "node:assert/strict";
import { test } from "node:test";

import * as setup from "../../packaging/cockpit/setup_form.js";

const question = (key, answer = "", more = {}) => ({
    Key: key, Text: key, Help: "", Choices: [], Secret: false, Answer: answer, Fault: "",
    ...more,
});
const CLOUD = question("cloud", "", { Fault: "is required" });
const SECRET = question("secret", "", { Secret: true, Fault: "is required" });
const PORT = question("interface", "lan0");

test("nothing can be run before the questions are there, or while one has a fault", () => {
    const form = setup.emptyForm();
    assert.ok(!setup.isComplete(form));
    assert.ok(!setup.isComplete(setup.listed(form, [CLOUD, PORT])));
    assert.ok(setup.isComplete(setup.listed(form, [PORT])));
});

test("what is typed is sent, and what is as before is not", () => {
    let form = setup.listed(setup.emptyForm(), [CLOUD, PORT]);
    form = setup.answered(form, "cloud", " huawei ");
    form = setup.answered(form, "interface", "eth0");
    assert.equal(setup.toml(form.typed), 'cloud = "huawei"\ninterface = "eth0"\n');
    assert.equal(setup.shown(form, PORT), "eth0");
    form = setup.answered(form, "interface", "lan0");
    assert.deepEqual(Object.keys(form.typed), ["cloud"]);
    assert.equal(setup.shown(form, PORT), "lan0");
});

test("an answer to what is no longer asked is dropped", () => {
    let form = setup.listed(setup.emptyForm(), [CLOUD, SECRET]);
    form = setup.answered(form, "secret", "hush");
    form = setup.listed(form, [CLOUD]);
    assert.deepEqual(form.typed, {});
});

test("a secret is sent as it was typed, shown as such alone, and left out when it is empty", () => {
    let form = setup.listed(setup.emptyForm(), [SECRET]);
    assert.equal(setup.shown(form, SECRET), "");
    form = setup.answered(form, "secret", "hush");
    assert.deepEqual(form.typed, { secret: "hush" });
    assert.deepEqual(setup.answered(form, "secret", "").typed, {});
});

test("a secret that was sealed before needs no other", () => {
    const sealed = { ...SECRET, Fault: "" };
    const form = setup.listed(setup.emptyForm(), [sealed, PORT]);
    assert.ok(setup.isSealed(form, sealed));
    assert.ok(!setup.isSealed(form, PORT));
    assert.ok(!setup.isSealed(form, SECRET));
    assert.ok(!setup.isSealed(setup.answered(form, "secret", "hush"), sealed));
});

test("a fault is shown once an answer was given, or setup was to be run", () => {
    let form = setup.listed(setup.emptyForm(), [CLOUD]);
    assert.equal(setup.fault(form, CLOUD, false), "");
    assert.equal(setup.fault(form, CLOUD, true), "is required");
    form = setup.answered(form, "cloud", "x");
    assert.equal(setup.fault(form, CLOUD, false), "is required");
});

test("answers are TOML, whatever is in them", () => {
    assert.equal(setup.toml({}), "");
    assert.equal(setup.toml({ a: "plain", b: 'quote " and \\' }), 'a = "plain"\nb = "quote \\" and \\\\"\n');
    assert.equal(setup.toml({ a: "\x7f\n\u0001-" }), 'a = "\\u007f\\n\\u0001-"\n');
});

test("objects are read a line at a time", () => {
    assert.deepEqual(setup.records('{"Text":"one"}\n{"Text":"two"}\n{"Te'), [[{ Text: "one" }, { Text: "two" }], '{"Te']);
    assert.deepEqual(setup.records(""), [[], ""]);
});
