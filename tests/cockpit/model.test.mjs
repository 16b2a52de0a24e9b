// What the page decides, without a browser.

import assert from "node:assert/strict";
import { test } from "node:test";

import * as model from "../../packaging/cockpit/model.js";

test("a state that is not known is shown as it is", () => {
    assert.deepEqual(model.deviceState("handed-over"), ["Handed over", "success"]);
    assert.deepEqual(model.deviceState("asleep-now"), ["Asleep now", "neutral"]);
    assert.deepEqual(model.partState("rollback-suspected"), ["Rollback suspected", "danger"]);
    assert.deepEqual(model.partState("new-word"), ["New word", "neutral"]);
    assert.deepEqual(model.protection("hsm"), ["Hsm", ""]);
});

test("what may be done depends on the state", () => {
    assert.deepEqual(model.actions("pending").slice(0, 3), ["approve", "reject", "ignore"]);
    assert.ok(!model.actions("online").includes("approve"));
    assert.ok(!model.actions("rejected").includes("reject"));
    assert.ok(model.actions("failed").includes("retry"));
    for (const state of [...model.STATES.keys(), "of-a-later-version"])
        assert.ok(model.actions(state).includes("forget"), state);
});

test("a filter has what was asked for, and no more than the daemon takes", () => {
    assert.deepEqual(model.filters({ text: "  ", state: "", provider: "" }), {});
    assert.deepEqual(model.filters({ text: " TH-20 ", state: "online" }), { text: "TH-20", state: "online" });
    assert.equal(model.filters({ text: "x".repeat(500) }).text.length, model.MAX_SEARCH);
});

test("pages are turned forwards and backwards", () => {
    let page = model.firstPage();
    assert.equal(model.after(page), "");
    assert.equal(model.nextPage(page), page, "there is none before the rows of this one came");
    page = model.nextPage(model.loaded(page, "child-050"));
    assert.equal(model.after(page), "child-050");
    page = model.nextPage(model.loaded(page, "child-100"));
    assert.equal(model.after(page), "child-100");
    page = model.previousPage(page);
    assert.equal(model.after(page), "child-050");
    page = model.previousPage(model.previousPage(page));
    assert.equal(model.after(page), "");
});

test("a page says where it is among how many", () => {
    const first = model.loaded(model.firstPage(), "child-050");
    const second = model.loaded(model.nextPage(first), "child-100");
    assert.equal(model.range(first, 50, 5000), "1–50 of 5,000");
    assert.equal(model.range(second, 50, 5000), "51–100 of 5,000");
    assert.equal(model.range(second, 50, null), "51–100 of more");
    assert.equal(model.range(second, 50, 60), "51–100 of more", "a count that is older than the rows");
    assert.equal(model.range(model.loaded(second, ""), 7, null), "51–57 of 57");
    assert.equal(model.range(model.firstPage(), 1, 1), "1 of 1");
    assert.equal(model.range(model.firstPage(), 0, 0), "None");
});

test("a total is known for a state alone", () => {
    const counts = { online: 4000, pending: 1000 };
    assert.equal(model.total(counts, {}), 5000);
    assert.equal(model.total(counts, { state: "pending" }), 1000);
    assert.equal(model.total(counts, { state: "failed" }), 0);
    assert.equal(model.total(counts, { state: "pending", text: "x" }), null);
    assert.equal(model.total(counts, { provider: "huawei" }), null);
});

test("the clock of a join window runs to its end", () => {
    const now = 1_795_982_000_000;
    const until = seconds => (now + seconds * 1000) * 1000;
    assert.equal(model.clock(until(180), now), "3:00");
    assert.equal(model.clock(until(61.2), now), "1:02");
    assert.equal(model.clock(until(0.1), now), "0:01");
    assert.equal(model.clock(until(0), now), "");
    assert.equal(model.clock(0, now), "");
});

test("times, numbers and sizes are for people", () => {
    const now = 1_795_982_000_000;
    const before = seconds => (now - seconds * 1000) * 1000;
    assert.equal(model.ago(0, now), "never");
    assert.equal(model.ago(before(-5), now), "just now", "by a clock that is ahead");
    assert.equal(model.ago(before(125), now), "2 min ago");
    assert.equal(model.ago(before(3600), now), "1 hour ago");
    assert.equal(model.ago(before(200_000), now), "2 days ago");
    assert.equal(model.when(0), "–");
    assert.match(model.when(now * 1000), /^2026-11-2\d \d\d:\d\d:\d\d$/);
    assert.equal(model.plural(1, "child", "children"), "1 child");
    assert.equal(model.plural(5000, "child", "children"), "5,000 children");
    assert.equal(model.bytes(0), "0 B");
    assert.equal(model.bytes(1536), "1.5 KiB");
    assert.equal(model.bytes(50 * 1024 * 1024), "50 MiB");
});

test("what polkit refuses is known from what fails", () => {
    const refusal = { name: "org.freedesktop.DBus.Error.AccessDenied", message: "Not authorized: x" };
    assert.ok(model.isRefusal(refusal));
    assert.ok(!model.isRefusal({ name: "org.gatewayd1.Error.WrongState", message: "x" }));
    assert.ok(!model.isRefusal(null));
    assert.match(model.errorText(refusal, true), /^Not authorized: x\. Turn on administrative access/);
    assert.equal(model.errorText({ problem: "not-found" }), "not-found.");
    assert.equal(model.errorText(new Error("It is gone.")), "It is gone.");
});

test("an object's path is escaped as systemd does it", () => {
    assert.equal(model.escapedPath("alibaba"), "alibaba");
    assert.equal(model.escapedPath("site-2"), "site_2d2");
    assert.equal(model.escapedPath("2nd"), "_32nd");
    assert.equal(model.escapedPath("ü"), "_c3_bc");
    assert.equal(model.escapedPath(""), "_");
});

test("a site is shown where there is one, or a child is logged in elsewhere", () => {
    assert.ok(!model.hasSite({ Mode: "alone", NContested: 0 }));
    assert.ok(model.hasSite({ Mode: "alone", NContested: 1 }));
    assert.ok(model.hasSite({ Mode: "share", NContested: 0 }));
    const lost = { QuorumLostTimestamp: 1_795_982_000_000_000, SecondsLeft: 4 };
    assert.match(model.quorum(lost), /^No answer since 2026-11-2.*; this gateway goes on for 4 s$/);
    assert.match(model.quorum({ ...lost, SecondsLeft: 0 }), /this gateway sends nothing for its children$/);
    assert.equal(model.quorum({ QuorumLostTimestamp: 0, SecondsLeft: 0 }), "No answer yet");
    assert.match(model.quorum({ QuorumLostTimestamp: 0, SecondsLeft: 9 }), /^Answers; .* for 9 s$/);
});

test("what a source shows is in order, without what each one has", () => {
    const shown = { source: "mdns", interface: "lan0", trust: "claimed", "txt.b": "2", "txt.a": "1" };
    assert.deepEqual(model.shownBy(shown), [["txt.a", "1"], ["txt.b", "2"]]);
});
